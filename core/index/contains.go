package index

// Contains reports whether a name with this tag leads to unit. A unit that was remembered without the lock may name
// memory that is used for something else by now; this says whether it is safe to look.
func (t *Table) Contains(tag, unit uint32) bool { return t.find(tag, unit) >= 0 }
