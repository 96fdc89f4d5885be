package faulty

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"

	"moorage/core/tier/file"
)

// Sector is what a disk writes whole or not at all.
const Sector = 512

// Dir is a file.Dir. Safe for concurrent use.
type Dir struct {
	mu     sync.Mutex
	names  map[string]*inode
	undo   []change // names changed since the last Sync, oldest first
	locked bool
	dead   bool // all calls fail
	lives  int  // changing calls until it is dead; 0: for ever
	rules  []*Rule
	direct bool // whether files can be opened with Direct
	synced int  // how often anything was synced
	writes int
}

// change is one name before and after.
type change struct {
	name          string
	before, after *inode
	group         int // a rename changes two names at once
}

// New is an empty directory.
func New() *Dir { return &Dir{names: map[string]*inode{}, direct: true} }

// NoDirect makes it one of those file systems that know no O_DIRECT.
func (d *Dir) NoDirect() { d.mu.Lock(); d.direct = false; d.mu.Unlock() }

// Path is not a real one.
func (d *Dir) Path() string { return "faulty" }

// Open is file.Dir's.
func (d *Dir) Open(name string, how file.How) (file.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := file.CheckName(name); err != nil {
		return nil, err
	}
	if err := d.fault(Open, name, 0, 0).err(); err != nil {
		return nil, d.failed(Open, name, err)
	}
	if how&file.Direct != 0 && !d.direct {
		return nil, d.failed(Open, name, file.ErrUnsupported)
	}
	node := d.names[name]
	if node == nil {
		if how&file.Create == 0 {
			return nil, d.failed(Open, name, fs.ErrNotExist)
		}
		node = &inode{}
		d.set(change{name: name, after: node, group: len(d.undo)})
	}
	return &handle{dir: d, node: node, name: name, direct: how&file.Direct != 0}, nil
}

// Rename is file.Dir's.
func (d *Dir) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Rename, from, 0, 0).err(); err != nil {
		return d.failed(Rename, from, err)
	}
	node := d.names[from]
	if node == nil {
		return d.failed(Rename, from, fs.ErrNotExist)
	}
	group := len(d.undo)
	d.set(change{name: to, before: d.names[to], after: node, group: group})
	d.set(change{name: from, before: node, group: group})
	return nil
}

// Remove is file.Dir's.
func (d *Dir) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Remove, name, 0, 0).err(); err != nil {
		return d.failed(Remove, name, err)
	}
	if d.names[name] == nil {
		return d.failed(Remove, name, fs.ErrNotExist)
	}
	d.set(change{name: name, before: d.names[name], group: len(d.undo)})
	return nil
}

func (d *Dir) set(c change) {
	d.undo = append(d.undo, c)
	put(d.names, c.name, c.after)
}

func put(names map[string]*inode, name string, node *inode) {
	if node == nil {
		delete(names, name)
	} else {
		names[name] = node
	}
}

// Names is file.Dir's.
func (d *Dir) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(List, "", 0, 0).err(); err != nil {
		return nil, d.failed(List, "", err)
	}
	names := make([]string, 0, len(d.names))
	for name := range d.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Sync is file.Dir's.
func (d *Dir) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(SyncDir, "", 0, 0).err(); err != nil {
		return d.failed(SyncDir, "", err)
	}
	d.undo = d.undo[:0]
	d.synced++
	return nil
}

// Lock is file.Dir's.
func (d *Dir) Lock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Lock, file.LockName, 0, 0).err(); err != nil {
		return d.failed(Lock, file.LockName, err)
	}
	if d.locked {
		return &file.LockedError{Dir: d.Path()}
	}
	d.locked = true
	return nil
}

// Close gives up the lock. The directory can be used again.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locked = false
	return nil
}

// Syncs says how often a file or the directory was synced, and how many writes there were.
func (d *Dir) Syncs() (syncs, writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced, d.writes
}

// Kill gives the directory that the end of the process leaves, unlocked and without rules. What was not synced can still be lost.
func (d *Dir) Kill() *Dir { return d.copy(nil) }

// Crash gives the directory that a loss of power leaves; which of the possible ones, the seed says.
func (d *Dir) Crash(seed uint64) *Dir { return d.copy(rand.New(rand.NewPCG(seed, 0x6d6f6f72))) }

// Vanish makes every further call on the directory and its files fail, as when the process were gone already: for tests in
// which goroutines outlive the crash.
func (d *Dir) Vanish() { d.mu.Lock(); d.dead = true; d.mu.Unlock() }

// DieAfter makes it vanish after so many more calls that change or sync something.
func (d *Dir) DieAfter(calls int) { d.mu.Lock(); d.lives = calls; d.mu.Unlock() }

// Dead says whether it has.
func (d *Dir) Dead() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.dead }

func (d *Dir) copy(r *rand.Rand) *Dir {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[string]*inode{}
	for name, node := range d.names {
		names[name] = node
	}
	if r != nil {
		d.forgetNames(names, r)
	}
	to := &Dir{names: map[string]*inode{}, direct: d.direct}
	made := map[*inode]*inode{nil: nil}
	again := func(node *inode) *inode {
		if _, ok := made[node]; !ok {
			made[node] = node.copy(r)
		}
		return made[node]
	}
	order := make([]string, 0, len(names))
	for name := range names {
		order = append(order, name)
	}
	slices.Sort(order) // the same seed, the same crash
	for _, name := range order {
		to.names[name] = again(names[name])
	}
	if r == nil { // not synced by the kill either
		for _, c := range d.undo {
			to.undo = append(to.undo, change{c.name, again(c.before), again(c.after), c.group})
		}
	}
	return to
}

// forgetNames takes all changes of names back and then makes some of them again. Calls that were one stay one.
func (d *Dir) forgetNames(names map[string]*inode, r *rand.Rand) {
	for _, c := range slices.Backward(d.undo) {
		put(names, c.name, c.before)
	}
	ordered, stop := r.IntN(2) == 0, r.IntN(len(d.undo)+1) // half of the crashes: a journalled file system's
	keep := map[int]bool{}
	for i, c := range d.undo {
		if _, asked := keep[c.group]; !asked {
			keep[c.group] = r.IntN(2) == 0
			if ordered {
				keep[c.group] = i < stop
			}
		}
		if keep[c.group] {
			put(names, c.name, c.after)
		}
	}
}

func (d *Dir) failed(op Op, name string, err error) error {
	return &file.Error{Op: op.String(), Path: fmt.Sprintf("%s/%s", d.Path(), name), Err: file.Classify(err)}
}
