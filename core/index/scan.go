package index

// ScanSlots is how many slots one call of Scan looks at, but for the rest of a group of equal tags.
const ScanSlots = 4096

// Scan visits keys in the order of their tags, starting with the tag cursor (0 at first), and returns the cursor
// to go on with: every key with a smaller tag has been dealt with. Between calls anything may be inserted, replaced
// or removed, and the table may grow: a key that is there throughout is visited exactly once.
//
// A call ends after a bounded number of slots, or after visit returned false: then the keys left with the same tag
// are still visited, since a cursor cannot stand between them. A caller that has no room for them drops all keys of
// that tag and continues with the tag itself as the cursor. done says that there is nothing left.
func (t *Table) Scan(cursor uint64, visit func(tag, unit uint32) bool) (next uint64, done bool) {
	const end = 1 << 32
	if cursor >= end {
		return end, true
	}
	next = cursor
	homes, goOn := 1<<t.bits, true
	first := int(uint32(cursor) >> t.shift)
	for at := first; ; at++ {
		s := t.slots[at]
		tag := uint64(s >> 32)
		if (!goOn || at-first >= ScanSlots) && (s == 0 || tag >= next) {
			return next, false
		}
		switch {
		case s == 0 && at >= homes-1:
			return end, true // behind the last home and nobody came this far
		case s == 0:
			next = uint64(at+1) << t.shift // who lives here or before has been met
		case tag >= cursor:
			goOn = visit(uint32(tag), uint32(s)) && goOn
			next = tag + 1
		}
	}
}
