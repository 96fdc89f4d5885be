package rdma

import (
	"errors"
	"fmt"
	"syscall"

	"moorage/rdma/internal/ibv"
)

// The errors of this package. Test for them with errors.Is.
var (
	ErrUnavailable  = errors.New("no RDMA here")
	ErrInvalid      = errors.New("invalid argument")
	ErrClosed       = errors.New("closed")
	ErrBusy         = errors.New("reads into the region are under way")
	ErrMemory       = errors.New("the memory cannot be registered")
	ErrStale        = errors.New("the peer has restarted since it described this region")
	ErrRemoteAccess = errors.New("the peer does not let this memory be read")
	ErrPeerLost     = errors.New("the peer cannot be reached")
	ErrPeerClosed   = errors.New("the peer has closed the connection")
	ErrDevice       = errors.New("the device is gone or broken")
	ErrDeadline     = errors.New("the time for a read is over")
	ErrLocal        = errors.New("a work request was wrong")
	ErrFlushed      = errors.New("not carried out because of another failure on the connection")
	ErrRefused      = errors.New("the peer refused the connection")
	ErrProtocol     = errors.New("the peer does not speak this protocol")
	ErrQuarantined  = errors.New("the card may still touch the memory")
)

// Reason says why there is no RDMA.
type Reason int

// The reasons, from the outside in.
const (
	NoPlatform   Reason = iota + 1 // another operating system or processor
	NoLibrary                      // libibverbs is not installed, or too old
	NoKernel                       // the kernel has no verbs
	NoDevice                       // there is no card
	NoPermission                   // there are cards, none of which can be opened
	NoActivePort                   // no port of any card has a link
)

var reasons = map[Reason]string{
	NoPlatform:   "only Linux on amd64 and arm64 is supported",
	NoLibrary:    "libibverbs cannot be loaded (on Debian or Ubuntu: apt-get install libibverbs1 ibverbs-providers)",
	NoKernel:     "the kernel has no support for verbs (modules ib_core and ib_uverbs)",
	NoDevice:     "there is no RDMA device",
	NoPermission: "no RDMA device can be opened (is /dev/infiniband there, and accessible?)",
	NoActivePort: "no port of any RDMA device is active",
}

func (r Reason) String() string { return reasons[r] }

// UnavailableError is an ErrUnavailable with its reason. Nothing is broken: transfers take another way.
type UnavailableError struct {
	Reason Reason
	Err    error // what the system said, or nil
}

func (e *UnavailableError) Error() string {
	text := ErrUnavailable.Error() + ": " + e.Reason.String()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is makes it an ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Unwrap gives what the system said.
func (e *UnavailableError) Unwrap() error { return e.Err }

// CallError is a verb that failed.
type CallError struct {
	Verb string
	Err  error
}

func (e *CallError) Error() string { return e.Verb + ": " + e.Err.Error() }

// Unwrap gives the errno.
func (e *CallError) Unwrap() error { return e.Err }

func called(verb string, err error) error {
	if err == nil {
		return nil
	}
	return &CallError{Verb: verb, Err: err}
}

// ReadError is a read that the card ended with an error.
type ReadError struct {
	Status    uint32 // ibv_wc_status
	VendorErr uint32
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("%v (status %d, vendor error %#x)", e.Unwrap(), e.Status, e.VendorErr)
}

// Unwrap gives the kind of error.
func (e *ReadError) Unwrap() error {
	switch ibv.Status(e.Status) {
	case ibv.RemoteAccess, ibv.RemoteInvalid:
		return ErrRemoteAccess
	case ibv.RetryExceeded, ibv.RNRExceeded, ibv.RemoteOperation:
		return ErrPeerLost
	case ibv.Flushed:
		return ErrFlushed
	case ibv.LocalLength, ibv.LocalOperation, ibv.LocalProtection, ibv.LocalAccess:
		return ErrLocal
	}
	return ErrDevice
}

// MemoryError is a registration that the system refused. It is an ErrMemory.
type MemoryError struct {
	Asked      uint64
	Registered uint64 // by this process so far
	Limit      uint64 // RLIMIT_MEMLOCK; zero where there is none
	Err        error
}

func (e *MemoryError) Error() string {
	text := fmt.Sprintf("%v: %d bytes asked for: %v", ErrMemory, e.Asked, e.Err)
	if errors.Is(e.Err, syscall.ENOMEM) && e.Limit > 0 {
		text += fmt.Sprintf("; the limit on locked memory (ulimit -l) is %d bytes, of which this process has registered %d",
			e.Limit, e.Registered)
	}
	return text
}

// Unwrap makes it an ErrMemory, and gives the errno.
func (e *MemoryError) Unwrap() []error { return []error{ErrMemory, e.Err} }

// Retryable says whether a new connection may succeed where this error came from. What was read before is undefined; to
// read it again is safe.
func Retryable(err error) bool {
	for _, kind := range []error{ErrRemoteAccess, ErrStale, ErrInvalid, ErrLocal, ErrQuarantined, ErrClosed, ErrDevice, ErrDeadline,
		ErrProtocol, ErrRefused} {
		if errors.Is(err, kind) {
			return false
		}
	}
	return err != nil
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
