package pull

import "strconv"

// Way is how bytes get out of memory (W) or into it (R).
type Way uint8

// The ways.
const (
	W0   Way = iota // from memory of the store
	W1              // from memory that was registered
	W2              // copied into a bounce buffer
	W3              // from memory that is registered for this transfer
	R1              // into memory that was registered
	R2              // into memory of the store
	R3              // into memory that is registered for this transfer
	R4              // into a bounce buffer, and copied out
	Ways            // how many there are
)

func (w Way) String() string {
	if w < R1 {
		return "W" + strconv.Itoa(int(w))
	}
	return "R" + strconv.Itoa(int(w-R1)+1)
}

// Report is what an Offer or Sink has done.
type Report struct {
	Bytes         [Ways]uint64 // by each way: decided for, whether or not they have been read
	Copied        uint64       // through bounce buffers, so far
	Registrations int          // made for this transfer alone
}

// Slice is memory of this process.
type Slice struct {
	Addr uintptr
	Size uint64
	// Reserved is for memory of the store into which bytes shall go: it is an extent that nobody but the caller has.
	Reserved bool
}

func total(slices []Slice) (n uint64, err error) {
	for i, s := range slices {
		if s.Size > 0 && (s.Addr == 0 || uint64(s.Addr)+s.Size < s.Size || n+s.Size < n) {
			return 0, failf(ErrInvalid, "slice %d: %d bytes at address 0x%x", i, s.Size, s.Addr)
		}
		n += s.Size
	}
	return n, nil
}
