// Package timing says where the time of an operation went, exactly.
//
// # Four stamps
//
// Every operation has four readings of one clock, CLOCK_MONOTONIC in whole nanoseconds:
//
//	T0  the call is entered
//	T1  its first chunk is handed to the kernel
//	T2  its last completion is reaped (the last fdatasync has returned, where the operation waits for one)
//	T3  its result is handed back
//
//	device = T2 − T1
//	host   = (T1 − T0) + (T3 − T2)
//	total  = T3 − T0
//
// These are integers and nothing is rounded, so host + device = total for every record, on every path. Device is what
// lies between the program and its bytes, seen from the program: the block layer, the driver, the file system's mapping
// and the delay until somebody reaps are part of it. It is not the latency of a controller. What each path counts as
// device is written down once, in [Definition]; figures of paths with different definitions may stand side by side,
// but no ratio of their device or host times means anything.
//
// Special cases, each with its own constructor or rule:
//
//	found in memory     T1 = T2 = T0: device is 0                                     ([Hit])
//	follower of a read  T1 = max(own T0, leader's T1), T2 = leader's T2; it is marked ([Follow])
//	failed, cancelled   the stamps are kept, no distribution counts them              ([Class], [Stamps.End])
//	batch, job          one record for each object, from when all were asked for; the wait for its turn is QueueWait ([Queued])
//	demotion, eviction  a class of their own, Background, never mixed with what a caller waited for
//
// # Parts
//
// Host is split further: Lookup, QueueWait, BufferWait, Submit, Complete, Verify, Copy, and [Record.Other] for the rest.
// A part is time of the calling operation outside of T1..T2, so the parts never add up to more than host. Checksums that
// are computed while later chunks are in flight lie inside device; they are a figure beside it, VerifyOverlapped, and
// neither device nor host.
//
// A record whose stamps run backwards or whose parts exceed its host time is a mistake of the caller's. It is counted as
// inconsistent and kept among the recent ones, where it can be looked at; it enters no distribution.
//
// # Where records go
//
// A [Recorder] keeps the last ones in a ring, adds each to histograms by kind and class, and hands it to a [Trace] if
// there is one. Adding costs no allocation, and waits for nothing but a reader that copies the very slot of the ring. A
// value in an octave that no value was in before allocates that octave, 8 KiB, once.
//
// # Histograms
//
// Log-linear: 1024 buckets for each power of two, exact below 1024 ns. What a quantile says is off by at most 1/2048 of
// it, see [Distribution.Quantile]; minimum, maximum, sum and count are exact. Distributions of several recorders merge without
// loss; quantiles are never averaged or added. A quantile of device and the same quantile of host belong to
// different operations: they do not add up to that of total.
//
// # Sources
//
// The split of one operation into host and device, and the demand that a definition be written down for each path, are
// those of the KV-cache benchmark of MLPerf Storage, whose reviewers would not give it up for a faster read
// (mlcommons/storage, pull request 287). The histogram is the idea of HdrHistogram (G. Tene) in the little that is
// needed here. A quantile is the nearest rank, so that it is a value that occurred.
//
// # Lifetime and concurrency
//
// Recorder and Trace are safe for concurrent use. A Record is a value, and nobody else's after it was added. A Recorder
// holds no goroutine and need not be closed; a Trace has one, which ends with Close.
package timing
