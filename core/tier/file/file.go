package file

import "strings"

// LockName is the file that Lock locks. Names does not list it.
const LockName = "lock"

// How says in which way a file is opened; values are or-ed.
type How uint8

const (
	// Create makes the file when it is not there.
	Create How = 1 << iota
	// Direct goes past the page cache (O_DIRECT): offsets, lengths and memory have to be aligned. An ErrUnsupported when the
	// file system has no such thing.
	Direct
)

// Dir is a directory. Names are those of plain files in it.
type Dir interface {
	// Open opens a file for reading and writing. Without Create it has to exist (fs.ErrNotExist).
	Open(name string, how How) (File, error)
	// Rename replaces what was at to.
	Rename(from, to string) error
	Remove(name string) error
	// Names lists the plain files, sorted, without the lock.
	Names() ([]string, error)
	// Sync makes the names durable: what was created, renamed and removed.
	Sync() error
	// Lock makes the caller the one owner until Close or the end of the process: ErrLocked when there is another one.
	Lock() error
	// Path is how people know it.
	Path() string
	Close() error
}

// File is an open file.
type File interface {
	// ReadAt is io.ReaderAt's: fewer bytes come with an error, io.EOF at the end.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt is io.WriterAt's: fewer bytes come with an error.
	WriteAt(p []byte, off int64) (int, error)
	// Sync makes what was written durable, and the size (fdatasync).
	Sync() error
	// Allocate makes sure that there is space for n bytes at off, and the file at least that long. What was not written reads
	// as zeros. ErrUnsupported when the file system cannot say; then nothing has changed.
	Allocate(off, n int64) error
	Truncate(n int64) error
	Size() (int64, error)
	// FD is the descriptor, or -1 when only ReadAt and WriteAt reach the file.
	FD() int
	Close() error
}

// CheckName tells plain names from paths.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return &Error{Op: "open", Path: name, Err: ErrName}
	}
	return nil
}
