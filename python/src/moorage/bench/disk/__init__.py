"""Reads from disk: what is on the device alone, and what a directory lies on."""
