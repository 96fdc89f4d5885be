package ibv

import "sync/atomic"

// Counts is how many verbs objects of this process exist, and how many registrations and deregistrations there were.
type Counts struct {
	Contexts, PDs, MRs, CQs, QPs, Channels int64
	Registrations, Deregistrations         int64
}

var live struct {
	contexts, pds, mrs, cqs, qps, channels atomic.Int64
	registrations, deregistrations         atomic.Int64
}

// Live reads the counts.
func Live() Counts {
	return Counts{
		Contexts: live.contexts.Load(), PDs: live.pds.Load(), MRs: live.mrs.Load(),
		CQs: live.cqs.Load(), QPs: live.qps.Load(), Channels: live.channels.Load(),
		Registrations: live.registrations.Load(), Deregistrations: live.deregistrations.Load(),
	}
}

// counted takes one off n when the verb that ends an object succeeded.
func counted(n *atomic.Int64, result uintptr) error {
	err := status(result)
	if err == nil {
		n.Add(-1)
	}
	return err
}
