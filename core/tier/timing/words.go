package timing

// Kind is what an operation does.
type Kind uint8

// The kinds. Numbers are part of the C ABI and are not used again.
const (
	Get      Kind = iota // the object, as a view
	GetInto              // the object, into memory of the caller
	Put                  // a new object
	Persist              // an object that is in memory, to disk because somebody asked
	Flush                // what is on disk already, made durable
	Prefetch             // from disk to memory because somebody asked
	Promote              // from disk to memory beside a read
	Demote               // from memory to disk because memory was needed
	Evict                // from disk to nowhere because disk was needed
	Remove
	Exists
	kinds
)

// Class is how an operation ended, and whose it was.
type Class uint8

// The classes. Distributions are kept of the first two, each for itself.
const (
	OK         Class = iota // somebody waited for it and got it
	Background              // nobody waited for it; it went well
	Failed
	Cancelled
	classes
	measured = Background + 1
)

// Path is the way that the bytes took.
type Path uint8

// The paths.
const (
	Memory     Path = iota // no device had a part in it
	UringFixed             // io_uring into registered memory
	Uring                  // io_uring into memory that is not registered
	Direct                 // pread and pwrite with O_DIRECT
	Buffered               // through the page cache
	Layer                  // through a file without a descriptor, as tests have them
	Mapped                 // through the page cache, by touching mapped pages
	paths
)

// Durability is what a write waited for.
type Durability uint8

// The durabilities.
const (
	NoWrite Durability = iota // the operation does not write to disk
	None                      // written; not synced
	Batch                     // synced together with others
	Each                      // synced for itself
	durabilities
)

var (
	kindNames = [...]string{
		"get", "get_into", "put", "persist", "flush", "prefetch", "promote", "demote", "evict", "remove", "exists",
	}
	classNames      = [...]string{"ok", "background", "failed", "cancelled"}
	pathNames       = [...]string{"memory", "uring_fixed", "uring", "direct", "buffered", "layer", "mapped"}
	durabilityNames = [...]string{"no_write", "none", "batch", "each"}
)

func (k Kind) String() string       { return name(kindNames[:], uint8(k)) }
func (c Class) String() string      { return name(classNames[:], uint8(c)) }
func (p Path) String() string       { return name(pathNames[:], uint8(p)) }
func (d Durability) String() string { return name(durabilityNames[:], uint8(d)) }

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// Definition says what a path counts as device, for a read or a write; the rest of the operation is host. It stands in
// every trace, and belongs beside every figure.
func Definition(p Path, write bool) string {
	switch {
	case p == Memory:
		return "no device has a part in it"
	case p == Mapped && write:
		return "the msync call; the stores into mapped pages are host"
	case p == Mapped:
		return "touching the mapped pages: page faults and what they read"
	case p == Buffered && write:
		return "the fdatasync call; the write into the page cache is host"
	case p == Buffered:
		return "the read calls: disk to page cache, and the kernel's copy out of it"
	case p == Layer:
		return "the calls of a file layer, not of a kernel"
	case p == Direct && write:
		return "from the first pwrite to the last return, fdatasync included where it is waited for; the drive reads the source"
	case p == Direct:
		return "from the first pread to the last return; the drive writes to the destination"
	case write:
		return "from the first submission to the last completion reaped, fdatasync included where it is waited for; the drive reads the source"
	default:
		return "from the first submission to the last completion reaped; the drive writes to the destination"
	}
}
