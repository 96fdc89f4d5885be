"""Ways to and from storage: one class each, all with the same objects and the same stamps."""
