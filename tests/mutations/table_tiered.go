package main

// tieredMutations are those of a store between memory and disk. D7: what a get brings is never older than what was there when
// it began, wherever it is, and what only memory has finds room.
var tieredMutations = []mutation{
	{"D7", "what goes out of memory was written before", "TestAFullMemoryGoesToDisk", "core", nil, []edit{{"core/evict.go",
		"t != nil && !t.disk.HasSeq(index.Key(body), c.Seq)", "t != nil && t.disk == nil"}}},
	{"D7", "a read that was overtaken by a removal gives no name", "TestARemovalOvertakesARead", "core", nil, []edit{{"core/fetch.go",
		"p.table.Reserve() == nil && t.disk.SetResident(e.Key(), e.Seq(), true)", "p.table.Reserve() == nil"}}},
	{"D7", "what was removed before its draft began is not written", "TestARemovalOvertakesAWrite", "core", nil, []edit{{"core/demote.go",
		"if !s.leads(v) {", "if !s.leads(v) && size == 0 {"}}},
	{"D7", "an older object of a name leaves the disk", "TestAReplacedObjectLeavesTheDisk", "core", nil, []edit{{"core/put.go",
		"s.tiered.disk.Remove(key, r.Seq-1)", "s.tiered.disk.Remove(key, 0)"}}},
	{"D7", "room on disk is kept for what only memory has", "TestAStoreThatIsFullCanBeRead", "core", nil, []edit{{"core/promises.go",
		"n > free || x.bytes > free-n", "n > free"}}},
	{"D7", "who waits for a read gets a view of its own", "TestReadsAreShared", "core", nil, []edit{{"core/fetch.go",
		"for range f.waiting {", "for range f.waiting / 8 {"}}},
	{"D7", "a clear reaches what is being read", "TestClearWhileKeysMove", "core", nil, []edit{{"core/tiered_names.go",
		"unit != 0 && s.heap.At(unit).Seq > upTo", "unit != 0"}}},
	{"D7", "a listing misses nobody who moves", "TestListWhileKeysMove", "core", nil, []edit{{"core/tiered_names.go",
		"resident && s.tiered.moves.Load()&movesMask == moves", "resident"}}},
	{"D7", "a removed object gives its room back", "TestAFullDisk", "core", nil, []edit{{"core/drain.go",
		"	s.fulfil(unit)\n", ""}}},
}
