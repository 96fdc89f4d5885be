package main

// cMutations are those of the plain C.
var cMutations = []mutation{
	{"P2", "child: the writer's mapping becomes private", "fork", standin, nil, []edit{{"capi/fork.c",
		"MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE", "MAP_SHARED | MAP_FIXED | MAP_NORESERVE"}}},
	{"P1", "fork: the child is published", "fork", standin, nil, []edit{{"capi/fork.c",
		"      publish(p, now.slot, e + 1);\n", ""}}},
	{"P1", "fork: the epoch is raised before it", "fork", standin, nil, []edit{{"capi/fork.c",
		"if (raise) __atomic_store_n(&p->epoch, e + 1, __ATOMIC_SEQ_CST);", ""}}},
	{"P1", "fork: the epoch is raised after it", "fork", standin, nil, []edit{{"capi/fork.c",
		"if ((e & 1) != 0) __atomic_store_n(&p->epoch, e + 1, __ATOMIC_SEQ_CST);", "(void)e;"}}},
	{"P1", "fork: the token is the proof of a child's life", "fork", standin, nil, []edit{{"capi/fork.c",
		"PROT_READ | PROT_WRITE, MAP_SHARED, now.token, 0)", "PROT_READ | PROT_WRITE, MAP_PRIVATE, now.token, 0)"}}},
	{"P7", "child: a release leaves the store's memory alone", "fork", standin, nil, []edit{{"capi/release.c",
		"  if (!moor_alive()) return;\n", ""}}},
	{"P1", "release (C): last epoch", "fork", standin, nil, []edit{{"capi/release.c",
		"  note_last_epoch(cell);\n", "  (void)note_last_epoch;\n"}}},
	{"P1", "push (C): the mark CLOSED stays", "calls", library, nil, []edit{{"capi/release.c",
		"(head & MOOR_LIST_CLOSED) | unit", "unit"}}},
	{"P1", "push (C): a closed store's drain is woken", "calls", library, nil, []edit{{"capi/release.c",
		"if ((head & MOOR_LIST_CLOSED) != 0) moor_wake(wake);", "(void)wake;"}}},
	{"P2", "cow: the window is private", "calls", library, nil, []edit{{"capi/view.c",
		"PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE", "PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE"}}},
	{"P2", "get_into: a destination inside a store is refused", "errors", library, nil, []edit{{"capi/scatter.c",
		"if (moor_region_overlaps(", "if (0 && moor_region_overlaps("}}},
}
