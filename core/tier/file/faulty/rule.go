package faulty

import (
	"math"
	"path"
)

// Op is a kind of call.
type Op uint8

// The kinds of calls.
const (
	Open Op = iota
	Read
	Write
	Sync
	Allocate
	Truncate
	Size
	Rename
	Remove
	List
	SyncDir
	Lock
)

func (op Op) String() string {
	return [...]string{"open", "read", "write", "sync", "allocate", "truncate", "size", "rename", "remove", "list", "sync directory", "lock"}[op]
}

// Rule is a fault: in which calls it shows, and how.
type Rule struct {
	Op       Op
	Name     string // a pattern of path.Match; empty: every file
	From, To int64  // reads and writes that touch these bytes; To 0: to the end
	Skip     int    // calls that it lets pass first
	Times    int    // how often it shows; 0: always from then on

	Err   error // what the call fails with
	Short int   // reads and writes: this many bytes are done before it fails (with Err, or without one: no progress after it)
	Flip  int64 // reads: a bit of the byte at this offset of the file is delivered wrong, when not 0

	met   int
	shown int
}

// Inject adds a rule. The first one that fits a call counts.
func (d *Dir) Inject(r Rule) *Rule {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = append(d.rules, &r)
	return &r
}

// Heal takes all rules away.
func (d *Dir) Heal() { d.mu.Lock(); d.rules = nil; d.mu.Unlock() }

// Shown says how often a rule has shown.
func (d *Dir) Shown(r *Rule) int { d.mu.Lock(); defer d.mu.Unlock(); return r.shown }

// Flip turns one bit of a file around, for good.
func (d *Dir) Flip(name string, bit int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].data[bit/8] ^= 1 << (bit % 8)
}

// Bytes is a file's content, nil when there is none of the name.
func (d *Dir) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if node := d.names[name]; node != nil {
		return append([]byte{}, node.data...)
	}
	return nil
}

// SetBytes makes a file, synced, or replaces its content; nil takes it away.
func (d *Dir) SetBytes(name string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b == nil {
		delete(d.names, name)
		return
	}
	d.names[name] = &inode{data: append([]byte{}, b...)}
}

// fault is the rule that shows in a call, nil mostly. The mutex is held.
func (d *Dir) fault(op Op, name string, off, n int64) *Rule {
	if d.lives > 0 && op != Read && op != Size && op != List {
		d.lives--
		d.dead = d.dead || d.lives == 0
	}
	if d.dead {
		return &Rule{Err: errGone}
	}
	for _, r := range d.rules {
		if !r.fits(op, name, off, n) {
			continue
		}
		if r.met++; r.met <= r.Skip || r.Times > 0 && r.shown >= r.Times {
			continue
		}
		r.shown++
		return r
	}
	return nil
}

func (r *Rule) fits(op Op, name string, off, n int64) bool {
	to := r.To
	if to == 0 {
		to = math.MaxInt64
	}
	if r.Op != op || off >= to || off+n <= r.From && n > 0 {
		return false
	}
	if r.Name == "" {
		return true
	}
	match, err := path.Match(r.Name, name)
	return err == nil && match
}

func (r *Rule) err() error {
	if r == nil {
		return nil
	}
	return r.Err
}
