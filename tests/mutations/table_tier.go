package main

// tierMutations are those of block I/O. D1: memory belongs to the engine until the last completion. D2: bytes that did not come
// are an error. D3: what is done without is counted.
var tierMutations = []mutation{
	{"D2", "checksums: the state goes into the first bytes", "TestAnyLengthFromAnyPlace", "core/tier/crc32c", nil, []edit{{
		"core/tier/crc32c/fold_amd64.s", "\tVPXORQ    Z31, Z0, Z0\n", ""}}},
	{"D2", "checksums: four sums become one", "TestAnyLengthFromAnyPlace", "core/tier/crc32c", nil, []edit{{
		"core/tier/crc32c/fold_amd64.s", "four:\n\tVBROADCASTI32X4 by64<>(SB), Z30\n", "four:\n"}}},
	{"D3", "memory that is made ready is gathered", "TestGather$|TestPinnableGathers", "core/arena", nil, []edit{{
		"core/arena/gather.go", "hugePage, unix.MADV_COLLAPSE) ==", "hugePage, unix.MADV_NORMAL) =="}}},
	{"D3", "mappings lie like the file", "TestMappingsLieLikeTheFile", "core/arena", nil, []edit{{
		"core/arena/gather.go", "head := (uintptr(off) - base) % hugePage", "head := uintptr(hugePage / 2)"}}},
	{"D1", "cancel waits for the completions", "TestCancelOnARing", "core/tier/blockio", nil, []edit{{"core/tier/blockio/lane.go",
		"\t\t\tl.cancel(op)\n", "\t\t\tl.cancel(op)\n\t\t\tbreak\n"}}},
	{"D1", "cancel asks the ring to stop", "TestCancelOnARing", "core/tier/blockio", nil, []edit{{"core/tier/blockio/lane.go",
		"\t\t\tl.cancel(op)\n", ""}}},
	{"D1", "cancel waits for the threads", "TestCancelWaitsForWhatIsInFlight", "core/tier/blockio", nil, []edit{{"core/tier/blockio/crew.go",
		"\t\t\tt.op.cancel(context.Cause(ctx))\n", "\t\t\tt.op.cancel(context.Cause(ctx))\n\t\t\treturn\n"}}},
	{"D1", "close waits for what is in flight", "TestCloseWaits", "core/tier/blockio", nil, []edit{{"core/tier/blockio/engine.go",
		"\t\te.life.Lock()\n", ""}}},
	{"D1", "a segment waits for what is in flight", "TestDropWaits", "core/tier/blockio", nil, []edit{{"core/tier/blockio/segment.go",
		"\ts.use.Lock()\n", ""}}},
	{"D1", "what the kernel did not take is withdrawn", "TestRingThatFails", "core/tier/blockio", nil, []edit{{
		"core/tier/blockio/lane.go", "!uring.Busy(err) || l.stalls > maxStalls", "l.stalls < 0"}}},
	{"D2", "end of the file", "TestEndOfFile", "core/tier/blockio", nil, []edit{{"core/tier/blockio/operation.go",
		"\t\terr = ErrShort\n", "\t\tc.done = c.n\n\t\treturn false, nil\n"}}},
	{"D2", "short reads go on", "TestFaults", "core/tier/blockio", nil, []edit{{"core/tier/blockio/operation.go",
		"err == nil && n < c.n-c.done:", "err == nil && n <= 0:"}}},
	{"D2", "and at a block", "TestFaults", "core/tier/blockio", nil, []edit{{"core/tier/blockio/operation.go",
		"\tif p.File.direct {\n\t\tn &^=", "\tif false {\n\t\tn &^="}}},
	{"D2", "errors of the kernel", "TestFaults", "core/tier/blockio", nil, []edit{{"core/tier/blockio/lane.go",
		"result, err = 0, unix.Errno(-result)", "result = int32(c.n - c.done)"}, {"core/tier/blockio/lane.go",
		"\t\"golang.org/x/sys/unix\"\n\n", ""}}},
	{"D2", "addresses of registered memory are translated", "TestRegisteredThroughAnotherMapping", "core/tier/blockio", nil, []edit{{
		"core/tier/blockio/lane.go", "l.ring.ReadFixed(p.File.target, place, g.at+inside,", "l.ring.ReadFixed(p.File.target, place, addr,"}}},
	{"D2", "chunks end with the part of a region", "TestRegionOfSeveralParts", "core/tier/blockio", nil, []edit{{
		"core/tier/blockio/operation.go", "n = int(min(uintptr(n), e.table.part-at%e.table.part))", "_ = at"}}},
	{"D2", "all rings have the memory", "TestPaths|TestWithoutCloning", "core/tier/blockio", nil, []edit{{"core/tier/blockio/buffers.go",
		"range e.rings[1:] {", "range e.rings[len(e.rings):] {"}}},
	{"D2", "a probe reads what it wrote", "TestNotDirect", "core/tier/probe", nil, []edit{{"core/tier/probe/probe.go",
		"if !bytes.Equal(in, out) {", "if bytes.Equal(in, nil) {"}}},
	{"D3", "fallbacks are counted", "TestTablesAreFull|TestNoRings", "core/tier/blockio", nil, []edit{{"core/tier/blockio/engine.go",
		"\te.count.fallbacks.Add(1)\n", ""}}},
	{"D3", "and logged once", "TestTablesAreFull", "core/tier/blockio", nil, []edit{{"core/tier/blockio/engine.go",
		"!before {", "true || before {"}}},
	{"D3", "a fallback shows in the path", "TestTablesAreFull", "core/tier/blockio", nil, []edit{{"core/tier/blockio/operation.go",
		"g == nil || !g.Registered() {\n\t\t\t\tpath = Uring", "g == nil {\n\t\t\t\tpath = Uring"}}},
	{"D3", "memory behind an overlay", "TestPlaces", "core/tier/probe", nil, []edit{{"core/tier/probe/place.go",
		"\tif q.memory != \"\" {", "\tif false {"}}},
}
