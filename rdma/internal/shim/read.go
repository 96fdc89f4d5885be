package shim

// MaxChain is the most that one call posts.
const MaxChain = 64

// Read is one work request: Len bytes at Remote are copied to Local. There is no pointer in it.
type Read struct {
	Local, Remote, ID uint64
	Len, LKey, RKey   uint32
	Signaled          uint32 // not zero: its end is told even when it went well
}
