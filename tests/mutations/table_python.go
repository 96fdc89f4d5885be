package main

const (
	consumers = "test_promises.py::test_p1_a_consumer_keeps_the_bytes_"
	p2        = "test_promises.py::test_p2_"
	p3        = "test_promises.py::test_p3_"
	p4        = "test_promises.py::test_p4_"
	p5        = "test_promises.py::test_p5_"
	p6        = "test_promises.py::test_p6_"
	p7        = "test_promises.py::test_p7_"
	snapshots = "test_snapshot.py::test_"
	network   = "test_network.py::test_"
	kvDevice  = "test_kv_device.py::test_"
)

// pythonMutations have the tests of the promises, as a user of Python would try them, for detectors.
var pythonMutations = []mutation{
	{"P1", "replace: the old bytes wait for their views", consumers + "when_the_name_is_gone[array-replace]", python, nil, []edit{{"core/put.go",
		"\tif c.Kill() {\n\t\ts.control.Push(s.words, c, unit)", "\tif c.Kill() || true {\n\t\ts.control.Push(s.words, c, unit)"}}},
	{"P1", "release: the last view pushes, nobody earlier", "test_promises.py::test_p1_any_order_of_letting_go", python, nil, []edit{{"capi/release.c",
		"if ((word & ~MOOR_CELL_OPEN) == MOOR_CELL_DEAD) push", "if ((word & ~MOOR_CELL_OPEN) == (MOOR_CELL_DEAD | 1)) push"}}},
	{"P1", "cow: the window holds its object", consumers + "when_the_name_is_gone[window as an array-remove]", python, nil, []edit{{"capi/view.c",
		"    m->data = map_window(hold, b);\n", "    m->data = map_window(hold, b);\n    if (m->data != NULL) release(b);\n"}}},
	{"P1", "close: not unmapped before the last view goes", consumers + "when_the_store_is_closed[array]", python, nil, []edit{{"core/drain.go",
		"if s.outstanding.Load() != int64(len(s.drains.held)) {", "if s.outstanding.Load() < 0 {"}}},
	{"P1", "drain: what a forked child views stays", consumers + "in_a_forked_child", python, nil, []edit{{"core/drain.go",
		"if c.HeldByChild(s.words) {\n\t\treturn false", "if c.HeldByChild(s.words) && false {\n\t\treturn false"}}},
	{"P1", "fork: the child is published", consumers + "in_a_forked_child", python, nil, []edit{{"capi/fork.c",
		"      publish(p, now.slot, e + 1);\n", ""}}},
	{"P1", "evict: what is viewed is spared", "test_promises.py::test_p1_eviction_takes_nothing_that_is_viewed", python, nil, []edit{{"core/evict.go",
		" || !c.Idle() || c.HeldByChild(s.words) || !c.Evict() {", " {"}}},
	{"P1", "release: first epoch stays for a child that holds", "test_fork.py::test_get_fork_release_get_release_replace", python, nil, []edit{{"core/arena/cell/protocol.go",
		"first(pair) == e || p.Holds(pair) ||", "first(pair) == e ||"}}},
	{"P1", "fork: the token is the proof of a child's life", "test_fork.py::test_a_child_that_closes_every_descriptor_is_still_known_to_live", python, nil, []edit{{"core/host.go",
		"!unmapped(c.Token); wait", "false && !unmapped(c.Token); wait"}}},

	{"P2", "view: the array says that it is read-only", p2 + "a_reader_cannot_write", python, nil, []edit{{"capi/view.c",
		"m->read_only = mode == MOOR_MODE_VIEW;", "m->read_only = 0;"}}},
	{"P2", "cow: the window is private", p2 + "what_is_written_to_a_private_view_stays_private", python, nil, []edit{{"capi/view.c",
		"PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE", "PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE"}}},
	{"P2", "adopt: the producer's pages are protected", p2 + "a_producer_that_keeps_its_tensor_changes_nothing", python, nil, []edit{{"core/reserve.go",
		"if o.NoProtect || c.Flags", "if true || c.Flags"}}},
	{"P2", "fork: the child's writer mapping becomes private", p2 + "a_child_that_writes_changes_nothing", python, nil, []edit{{"capi/fork.c",
		"MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE", "MAP_SHARED | MAP_FIXED | MAP_NORESERVE"}}},
	{"P2", "fork: the child has no park", p2 + "a_child_cannot_reach_adopted_memory", python, nil, []edit{{"capi/fork.c",
		"if (park != NULL && munmap(", "if (0 && munmap("}}},
	{"P2", "put: no name before the bytes are there", p2 + "readers_never_see_half_of_a_replacement", python, nil, []edit{
		{"core/put.go", "\tif !fill(s.arena.WriterAddr(d.c.Off)) {", "\tif false {"},
		{"core/put.go", "\tr, err := s.publish(op, p, key, d, o, nil)\n", "\tr, err := s.publish(op, p, key, d, o, nil)\n\tfill(s.arena.WriterAddr(d.c.Off))\n"}}},

	{"P3", "view: nothing is copied", p3 + "a_view_copies_nothing_and_touches_no_page", python, nil, []edit{{"capi/view.c",
		"int copied = mode == MOOR_MODE_COPY ||", "int copied = mode != MOOR_MODE_COW ||"}}},
	{"P3", "view: the address is that of the object", p3 + "a_view_is_where_the_bytes_are", python, nil, []edit{{"capi/view.c",
		"int copied = mode == MOOR_MODE_COPY ||", "int copied = mode != MOOR_MODE_COW ||"}}},
	{"P3", "view: no byte is looked at", p3 + "the_cost_of_a_view_does_not_depend_on_its_size", python, nil, []edit{{"capi/view.c",
		"  m->block = b;\n", "  m->block = b;\n  for (uint64_t i = 0; i < hold->size; i += 4096) (void)*(volatile char *)(uintptr_t)(hold->data + i);\n"}}},
	{"P3", "cow: nothing is copied", p3 + "a_window_copies_nothing_until_it_is_written_to", python, nil, []edit{{"capi/view.c",
		"#define HUGE_COPY", "#undef MOOR_COW_MIN\n#define MOOR_COW_MIN (1u << 30)\n#define HUGE_COPY"}}},
	{"P3", "cow: no page of the window is made before its use", p3 + "a_window_copies_nothing_until_it_is_written_to", python, nil, []edit{{"capi/view.c",
		"PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE", "PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE"}}},
	{"P3", "adopt: nothing is copied", p3 + "adopt_copies_nothing", python, nil, []edit{{"core/reserve.go",
		"if !ours || !tensor.Dense(", "if true || !ours || !tensor.Dense("}}},

	{"P4", "put: registers nothing", p4 + "no_call_registers_memory", python, nil, []edit{
		{"core/put.go", "\t\"moorage/core/arena\"\n", "\t\"golang.org/x/sys/unix\"\n\n\t\"moorage/core/arena\"\n"},
		{"core/put.go", "\ts.counters.copiedIn.Add(uint64(n))\n", "\ts.counters.copiedIn.Add(uint64(n))\n\t_, _, _ = unix.Syscall(unix.SYS_MLOCK, dst, n, 0)\n"}}},
	{"P4", "put: does not register the caller's memory", p4 + "no_call_registers_memory", python, nil, []edit{
		{"core/put.go", "\t\"moorage/core/arena\"\n", "\t\"golang.org/x/sys/unix\"\n\n\t\"moorage/core/arena\"\n"},
		{"core/put.go", "\ts.counters.copiedIn.Add(uint64(n))\n", "\ts.counters.copiedIn.Add(uint64(n))\n\t_, _, _ = unix.Syscall(unix.SYS_MLOCK, src, n, 0)\n"}}},
	{"P4", "get: registers nothing", p4 + "no_call_registers_memory", python, nil, []edit{{"capi/view.c",
		"  m->block = b;\n", "  m->block = b;\n  if (mlock((void *)(uintptr_t)hold->data, (size_t)hold->size) != 0) errno = 0;\n"}}},
	{"P4", "get: opens no ring or device", p4 + "no_call_registers_memory", python, nil, []edit{{"capi/view.c",
		"  m->block = b;\n", "  m->block = b;\n  static int once;\n  if (!once++) (void)open(\"/dev/null\", O_RDWR | O_CLOEXEC);\n"}}},
	{"P4", "view: mapped once, not by each get", p4 + "memory_keeps_its_address_through_everything", python, nil, []edit{{"capi/view.c",
		"if (mode == MOOR_MODE_COW && !copied) {", "if (mode != MOOR_MODE_COPY && !copied) {"}}},

	{"P5", "if_exists=\"raise\" refuses", p5 + "a_refusal_names_the_cause_and_changes_nothing", python, nil, []edit{{"core/put.go",
		"\tdefault:\n\t\treturn PutResult{}, failf(op, ErrExists, `key %q; use if_exists=\"replace\" or \"keep\"`, key)",
		"\tdefault:\n\t\treturn PutResult{}, nil"}}},
	{"P5", "a refusal gives back what was taken", p5 + "a_refusal_names_the_cause_and_changes_nothing", python, nil, []edit{{"capi/scatter.c",
		"  moor_hold_release(hold);\n  return status;", "  if (status == MOOR_OK) moor_hold_release(hold);\n  return status;"}}},
	{"P5", "get_into: a destination inside a store is refused", p5 + "a_destination_inside_a_store_is_refused", python, nil, []edit{{"capi/scatter.c",
		"    if (is_read_only(spans[i].data, part)) {", "    if (0 && is_read_only(spans[i].data, part)) {"}}},
	{"P5", "get_into: spans that are too small are refused", p5 + "a_destination_that_is_too_small_is_not_touched", python, nil, []edit{{"capi/scatter.c",
		"  if (left == 0) return MOOR_OK;\n", "  if (left < 4096) return MOOR_OK;\n"}}},
	{"P5", "import: a file that is cut off is refused", p5 + "a_file_of_another_length_is_refused[cut off]", python, nil, []edit{{"core/safetensors/header.go",
		"\tif at != dataSize {\n", "\tif at < dataSize {\n"}}},

	{"P6", "copies in are counted", p6 + "every_byte_that_is_copied_is_counted", python, nil, []edit{{"core/put.go",
		"\ts.counters.copiedIn.Add(uint64(n))\n", ""}}},
	{"P6", "copies out are counted", p6 + "every_byte_that_is_copied_is_counted", python, nil, []edit{{"capi/scatter.c",
		"  __atomic_fetch_add(&control->copied_out, n, __ATOMIC_RELAXED);", "  (void)control;"}}},
	{"P6", "asking for the size is no get", p6 + "operations_are_counted", python, nil, []edit{{"capi/entry_get.c",
		"    __atomic_fetch_add(&control->asked, 1, __ATOMIC_RELAXED);", "    (void)control;"}}},
	{"P6", "copies in place of windows are counted", p6 + "every_byte_that_is_copied_is_counted", python, nil, []edit{{"capi/view.c",
		"  __atomic_fetch_add(&b->control->copied_out, hold->size, __ATOMIC_RELAXED);", ""}}},
	{"P6", "what was replaced counts as borrowed", p6 + "what_is_borrowed_can_be_seen", python, nil, []edit{{"core/stats.go",
		"if b.Views == 0 && !b.Child {", "if !c.Named() || b.Views == 0 && !b.Child {"}}},
	{"P6", "windows are counted", p6 + "what_is_borrowed_can_be_seen", python, nil, []edit{{"capi/view.c",
		"      __atomic_fetch_add(&b->control->windows, 1, __ATOMIC_RELAXED);\n", ""}}},
	{"P6", "misses are counted", p6 + "operations_are_counted", python, nil, []edit{{"core/stats.go",
		"\tv.Misses += p.misses.Load()\n", ""}}},

	{"P7", "every call looks at the fork flag first", p7 + "a_child_is_answered_at_once_whatever_the_parent_was_doing", python, nil, []edit{{"capi/release.c",
		"return __atomic_load_n(alive, __ATOMIC_RELAXED) != 0;", "return 1;"}}},
	{"P7", "close does not wait for views", p7 + "close_does_not_wait_for_views", python, nil, []edit{{"core/store.go",
		"\t\t<-s.finished\n", "\t\t<-s.finished\n\t\tfor s.outstanding.Load() != 0 {\n\t\t\ttime.Sleep(time.Millisecond)\n\t\t}\n"}}},
	{"P7", "close stops long copies", p7 + "a_long_copy_ends_when_the_store_is_closed", python, nil, []edit{{"core/store.go",
		"\ts.control.Closing.Store(1)\n", ""}}},

	// snapshots, sets, waiting
	{"P2", "put_tensors(atomic=True): one set", snapshots + "if_exists_of_a_set", python, nil, []edit{{"capi/pyput.c",
		"as_set ? MOOR_PUT_ATOMIC : 0", "0"}}},
	{"P2", "put_tensors(atomic=True): one set, whatever is in it", snapshots + "one_bad_item_and_nothing_is_stored[20-too large]", python, nil, []edit{
		{"capi/pyput.c", "  int as_set = from == -1;\n", "  int as_set = from == -1;\n  if (as_set) return declined();\n"},
		{"python/src/moorage/_plain.py", "flags=_abi.PUT_ATOMIC", "flags=0"}}},
	{"P5", "put_tensors(atomic=True): what cannot be stored is named", snapshots + "one_bad_item_and_nothing_is_stored[10-object array]", python, nil, []edit{{"python/src/moorage/_batch.py",
		"            raise UnsupportedError(f\"the tensor of key {key!r}: {error}\") from None\n", "            raise error\n"}}},
	{"P5", "snapshot: a closed one says so", snapshots + "a_closed_one_is_empty_and_its_getters_say_so", python, nil, []edit{{"python/src/moorage/snapshot.py",
		"        if not self._id:\n            raise _closed()\n", ""}}},
	{"P5", "ForkedError names the remedy", snapshots + "a_store_in_a_child_names_the_snapshot", python, nil, []edit{{"python/src/moorage/errors.py",
		"_FORKED if kind is ForkedError else text", "text"}}},
	{"P6", "snapshot: names that are not UTF-8 are kept apart", snapshots + "names_that_are_not_utf8", python, nil, []edit{{"python/src/moorage/_lib.py",
		"key.decode(\"utf-8\", \"surrogateescape\")", "key.decode(\"utf-8\", \"replace\")"}}},
	{"P1", "snapshot: a prefix holds what it lists", snapshots + "it_holds_its_objects_through_everything", python, nil, []edit{{"core/snapshot.go",
		"\t\t\tv.c.Acquire(s.words)\n", ""}}},
	{"P7", "snapshot: dropping it is enough", snapshots + "dropping_it_gives_everything_back_without_a_collection", python, nil, []edit{{"python/src/moorage/snapshot.py",
		"        try:  # noqa: SIM105 - the interpreter may be half gone, contextlib too\n            self.close()\n", "        try:\n            pass\n"}}},
	{"P7", "wait: in pieces, so that Ctrl-C is heard", snapshots + "ctrl_c_ends_a_wait", python, nil, []edit{{"python/src/moorage/store.py",
		"_WAIT_PIECE = 0.05", "_WAIT_PIECE = 8"}}},
	{"P7", "wait: a close between two pieces ends it as any other", snapshots + "close_between_two_pieces_of_a_wait", python, nil, []edit{{"python/src/moorage/store.py",
		"if status == _BAD_HANDLE and waited:", "if False:"}}},

	// network devices
	{"P4", "network: a device is attached once", network + "attached", python, nil, []edit{
		{"capi/device.go", "	if s.attached(wanted) != nil {\n		return", "	if false {\n		return"},
		{"capi/device.go", "	if s.attached(d.Name()) != nil {", "	if false {"}}},
	{"P7", "network: what cannot be attached is closed", network + "attached", python, nil, []edit{{"capi/device.go",
		"		_ = d.Close() // nothing is on it\n", ""}}},
	{"P5", "network: a kernel without verbs is told apart", network + "what_is_missing", python, nil, []edit{{"rdma/domain.go",
		"	case errors.Is(err, syscall.ENOSYS):\n		return &UnavailableError{Reason: NoKernel,", "	case false && errors.Is(err, syscall.ENOSYS):\n		return &UnavailableError{Reason: NoKernel,"}}},
	{"P6", "network: what each device has is its own", network + "attached", python, nil, []edit{{"capi/device.go",
		"bytes: C.uint64_t(d.Bytes), registrations", "bytes: C.uint64_t(d.Bytes) / 2, registrations"}}},
	{"P5", "kv-bench: a window waits for discards", kvDevice + "discards_are_waited_for", python, nil, []edit{{"python/src/moorage/bench/kv/settle.py",
		"if now is not None and now.discards != last.discards:", "if False:"}}},
	{"P5", "kv-bench: what is kept is what was made", kvDevice + "what_does_not_fit_is_made_again[its files]", python, nil, []edit{{"python/src/moorage/bench/kv/kept.py",
		"    if now != state[\"files\"]:\n", "    if False:\n"}}},
	{"P5", "kv-bench: a trial leaves its room to the next", kvDevice + "a_trial_leaves_its_room_to_the_next", python, nil, []edit{{"python/src/moorage/bench/kv/trial.py",
		"        shutil.rmtree(where, ignore_errors=True)  # the next one needs the room\n", ""}}},
	{"P5", "kv-bench: workers' memory lies in huge pages", "test_kv_bench.py::test_memory_of_workers_lies_in_huge_pages", python, nil, []edit{{"python/src/moorage/bench/kv/lane.py",
		"memory.THP if nbytes >= memory.HUGE else memory.SMALL", "memory.SMALL"}}},
	{"P5", "kv-bench: ranks begin when all are ready", "test_kv_ranks.py::test_windows_begin_together", python, nil, []edit{{"python/src/moorage/bench/kv/start.py",
		"        if one.recv(1) != _READY:\n            return False\n", "        pass\n"}}},
	{"P5", "kv-bench: a rank that has ended ends the others", "test_kv_ranks.py::test_who_waits_for_a_rank_that_fails_is_let_go", python, nil, []edit{{"python/src/moorage/bench/kv/ranks.py",
		"            one.ours.shutdown(socket.SHUT_RDWR)  # nobody waits for somebody who has ended\n", "            pass\n"}}},
	{"P5", "kv-bench: nothing is counted under two names", "test_kv_bus.py::test_nothing_is_counted_under_two_names", python, nil, []edit{{"python/src/moorage/bench/kv/bus.py",
		"        if found:\n            return found\n    found = [", "        if names == _ALIASES[-1]:\n            found = [e for f in folders for n in _ALIASES for e in _aliases(f, n)]\n            if found:\n                return found\n    found = ["}}},
	{"P5", "bench register: no advice from what is no card", "test_bench_register.py::test_what_is_no_card_recommends_nothing", python, nil, []edit{{"python/src/moorage/bench/register/figures.py",
		"        elif self.software:\n", "        elif False:\n"}}},
	{"P5", "bench register: no advice from an emulated processor", "test_bench_register.py::test_what_is_no_card_recommends_nothing", python, nil, []edit{{"python/src/moorage/bench/register/figures.py",
		"        if self.emulated:\n", "        if False:\n"}}},
	{"P5", "bench register: a refusal on another thread is told", "test_bench_register.py::test_a_device_that_refuses_later", python, nil, []edit{{"python/src/moorage/bench/register/measure.py",
		"    if failed:\n        raise failed[0]\n    return took", "    return took"}}},
	{"P5", "doctor: a capability counts outside of containers alone", "test_doctor_rdma.py::test_memlock", python, nil, []edit{{"python/src/moorage/doctor/memory.py",
		"        return has and (system.text(\"/proc/self/uid_map\") or \"\").split() == [\"0\", \"0\", \"4294967295\"]\n", "        return has\n"}}},
}
