// Package ibv calls libibverbs, which is looked up at run time and never linked.
//
// What verbs.h keeps inline (posting, polling, arming a completion queue) goes through the function table of an opened
// device, at fixed offsets. The layouts are the same in every release of the library from v13 on; a test compares them with
// the C compiler's. Verbs objects are C's: Go holds their addresses, and nothing in C keeps a Go pointer, since each structure
// that is passed is read or filled before the call returns.
//
// Every function is safe for concurrent use as far as the verb behind it is; destroying an object while another call uses it
// is not. On platforms other than Linux on amd64 and arm64, Load says that there is no RDMA.
package ibv
