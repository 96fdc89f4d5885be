package model

// Faults take protections out, one field each.
type Faults struct {
	halfOpen, childIsParent, noFirstRaise, noSecondRaise           bool
	kidsAfterFork, slotAfterFork, kidsFlag                         bool
	epochAfterCount, scanBeforeCount, epochAgain                   bool
	noFirst, firstAlways, noLast, lastAfterCount                   bool
	epochBeforeGivenUp, givenUpLate, getNoLock, strict             bool
	closedBeforePush, touchAfterPush, countBeforeDead              bool
	replaceTwice, pinLost, pinCopiedEarly, pinBeforeLock           bool
	pinCounted, evictNoCheck, evictNoLock, evictNoGate             bool
	takeScanFirst, takeNoScan, takeNoCount                         bool
	publishFirst, noOpen, commitNoGate, commitNoHold               bool
	holdBlind, noClaim, noUndo, undoLate                           bool
	snapApart, snapLetGo, multiApart, multiLetGo                   bool
	scanNoLog, scanUnlocked, cloneLate                             bool
	gateLookFirst, noWait, stripesFirst, oneStripe, noWake         bool
	drainNoScan, noWalk, noDrainMutex, watcherGivesUp, drainNoGate bool
	wakeReadLate, unmapEarly, freeFirst                            bool

	// These are no faults: other orders that hold as well.
	noSkip, noKids, slotBeforeKids, publishAfterRaise, kidsDownFirst, deadThenCount bool
}

// Mutation is a fault, the scenario that shows it, and the rule that has to break.
type Mutation struct {
	Name, Scenario, Rule, What string
	Faults                     Faults
}

// Mutations returns those that must be found.
func Mutations() []Mutation {
	return []Mutation{
		// epochs
		{"halfOpen", "epoch1", "I1", "a child holds (first,last] instead of [first,last]", Faults{halfOpen: true}},
		{"childIsParent", "epoch1", "I1", "child's epoch is the value after the second raise", Faults{childIsParent: true}},
		{"halfOpenParent", "epoch1", "I1", "both of the above", Faults{halfOpen: true, childIsParent: true}},
		{"slotAfterFork", "epoch1", "I1", "child published after the fork", Faults{slotAfterFork: true}},
		{"kidsAfterFork", "epoch1", "I1", "kids raised after the fork", Faults{kidsAfterFork: true}},
		{"kidsFlag", "epoch2", "I1", "kids is a flag, cleared with the first child that ends", Faults{kidsFlag: true}},
		{"noFirstRaise", "epoch1", "I1", "E raised only after the fork", Faults{noFirstRaise: true}},
		{"noSecondRaise", "epoch2", "I6", "E raised only before the fork", Faults{noSecondRaise: true}},
		{"epochAfterCount", "epoch1", "I1", "get loads E after its increment", Faults{epochAfterCount: true}},
		{"scanBeforeCount", "epoch1", "I1", "get scans the children before its increment", Faults{scanBeforeCount: true}},
		{"epochAgain", "epoch3", "I1", "get loads E again when its CAS fails", Faults{epochAgain: true}},
		{"firstAlways", "epoch2", "I1", "the first view always sets first (one epoch)", Faults{firstAlways: true}},
		{"noFirst", "epoch2", "I6", "first is never raised", Faults{noFirst: true}},
		{"noLast", "epoch1", "I1", "release does not raise last", Faults{noLast: true}},
		{"lastAfterCount", "epoch1", "I3", "last raised after the decrement", Faults{lastAfterCount: true}},
		{"epochBeforeGivenUp", "epoch1", "I1", "E loaded before the caller gave the view up", Faults{epochBeforeGivenUp: true}},
		{"givenUpLate", "epoch1", "I1", "view or cow window still mapped after its release", Faults{givenUpLate: true}},
		{"strict", "epoch1", "I1", "(a stronger claim) a view in the middle of its release is the child's", Faults{strict: true}},
		// names
		{"getNoLock", "reuse", "I2", "get without the read lock", Faults{getNoLock: true}},
		{"countBeforeDead", "epoch1", "I2", "index's count dropped before DEAD is set, push decided by that result", Faults{countBeforeDead: true}},
		{"replaceTwice", "replace", "I7", "replace unlinks and links in two critical sections", Faults{replaceTwice: true}},
		{"evictNoLock", "evict", "I2", "evict's CAS outside the write lock", Faults{evictNoLock: true}},
		{"evictNoCheck", "evict", "I2", "evict trusts a candidate without its sequence number", Faults{evictNoCheck: true}},
		{"pinBeforeLock", "pin", "I8", "evict looks at the pin before it has the write lock", Faults{pinBeforeLock: true}},
		{"pinLost", "pin", "I8", "replace does not copy the pin", Faults{pinLost: true}},
		{"pinLostByCommit", "pin2", "I8", "nor does a commit that replaces", Faults{pinLost: true}},
		{"pinCopiedEarly", "pin", "I8", "replace copies the pin before it has the write lock", Faults{pinCopiedEarly: true}},
		{"pinCounted", "pin", "I8", "pins are counted", Faults{pinCounted: true}},
		{"takeNoScan", "take", "I4", "take does not look at the children", Faults{takeNoScan: true}},
		{"takeScanFirst", "take", "I4", "take looks at the children before it has seen {alive,1}", Faults{takeScanFirst: true}},
		{"takeNoCount", "take", "I4", "take without the test for {alive,1}", Faults{takeNoCount: true}},
		// produced in place
		{"publishFirst", "adopt", "P2", "published before the pages are protected", Faults{publishFirst: true}},
		{"freeFirst", "adopt2", "P2", "extent freed before it is unprotected", Faults{freeFirst: true}},
		{"noOpen", "adopt2", "P2", "no OPEN bit: {DEAD,1} means uncommitted", Faults{noOpen: true}},
		{"commitNoHold", "commit", "I3", "commit has no count of its own", Faults{commitNoHold: true}},
		{"holdBlind", "commit", "I2", "commit counts up from zero too", Faults{holdBlind: true}},
		{"noClaim", "commit", "P2", "two commits of one reservation are not kept apart", Faults{noClaim: true}},
		{"noUndo", "refuse", "P2", "a refused commit leaves the pages protected", Faults{noUndo: true}},
		{"undoLate", "refuse", "P2", "a refused commit unprotects after it let its count go", Faults{undoLate: true}},
		// snapshots
		{"snapApart", "snapshot", "I9", "a snapshot without the sets lock", Faults{snapApart: true}},
		{"snapLetGo", "snapshot", "I9", "a snapshot lets the sets lock go between two shards", Faults{snapLetGo: true}},
		{"multiApart", "snapshot", "I9", "a multi-put without the sets lock", Faults{multiApart: true}},
		{"multiLetGo", "snapshot", "I9", "a multi-put lets the sets lock go between two shards", Faults{multiLetGo: true}},
		{"scanNoLog", "scan", "I9", "a scan does not look at its log", Faults{scanNoLog: true}},
		{"scanUnlocked", "scan", "I9", "a scan begins inside a multi-put, which has written its log", Faults{scanUnlocked: true}},
		{"cloneLate", "clone", "I2", "a view is cloned from a snapshot that was closed", Faults{cloneLate: true}},
		{"snapEarly", "snapfork", "I1", "E loaded before the snapshot was given up", Faults{epochBeforeGivenUp: true}},
		// close and drain
		{"closedBeforePush", "close", "I2", "closed is a flag read before the push", Faults{closedBeforePush: true}},
		{"touchAfterPush", "close", "I5", "closed is a flag in store memory read after the push", Faults{touchAfterPush: true}},
		{"gateLookFirst", "close", "I5", "a call looks at closed before it counts itself", Faults{gateLookFirst: true}},
		{"noWait", "close", "I5", "close does not wait for calls in flight", Faults{noWait: true}},
		{"stripesFirst", "close", "I5", "close looks at the stripes before it sets closed", Faults{stripesFirst: true}},
		{"oneStripe", "close", "I5", "close waits for one stripe only", Faults{oneStripe: true}},
		{"evictNoGate", "evictclose", "I5", "evict is not counted as a call", Faults{evictNoGate: true}},
		{"commitNoGate", "commitclose", "I5", "commit is not counted as a call", Faults{commitNoGate: true}},
		{"drainNoGate", "close", "I5", "an allocation's drain is not inside its call", Faults{drainNoGate: true}},
		{"unmapEarly", "close", "I5", "unmap without waiting for the last cell", Faults{unmapEarly: true}},
		{"noWake", "close", "I2", "close does not wake the drain itself", Faults{noWake: true}},
		{"wakeReadLate", "close", "I2", "the drain reads wake after it took the list", Faults{wakeReadLate: true}},
		{"drainNoScan", "epoch1", "I1", "the drain does not look at the children", Faults{drainNoScan: true}},
		{"noWalk", "epoch1", "I6", "held cells are not looked at again", Faults{noWalk: true}},
		{"noDrainMutex", "drains", "I2", "two drains at once", Faults{noDrainMutex: true}},
		{"watcherGivesUp", "drains", "I6", "the watcher leaves when another one drains", Faults{watcherGivesUp: true}},
	}
}

// Variant is another order that holds too.
type Variant struct {
	Name, What string
	Scenarios  []string
	Faults     Faults
}

// Variants returns orders that hold although the steps are not these. No test can fail on them.
func Variants() []Variant {
	fork := []string{"epoch1", "take", "epoch2", "epoch3"} // the smaller ones first
	return []Variant{
		{"noSkip", "get scans and swaps even when first is E already", fork, Faults{noSkip: true}},
		{"noKids", "no count of children: every look scans all slots", fork, Faults{noKids: true}},
		{"slotBeforeKids", "child's slot published before it is counted in kids", fork, Faults{slotBeforeKids: true}},
		{"publishAfterRaise", "slot and kids raised after E, but before the fork: until the second raise no get has an E above the child's, so what it writes still holds", fork, Faults{publishAfterRaise: true}},
		{"kidsDownFirst", "kids falls before the slot of a child that has ended is cleared", fork, Faults{kidsDownFirst: true}},
		{"deadThenCount", "remove sets DEAD, then drops the count", []string{"epoch1", "evict", "close"}, Faults{deadThenCount: true}},
	}
}
