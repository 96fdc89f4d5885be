package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"moorage/core/tier/file"
)

// Log appends to a journal.
type Log struct {
	seed uint32

	written, synced atomic.Uint64 // numbers: all up to there are
	syncing         atomic.Uint64 // no sync has taken in more than up to there

	flushing sync.Mutex // one Write, Sync or Rotate at a time; taken before mu
	f        file.File
	size     atomic.Int64
	again    []byte // what could not be written; the next one begins with it

	mu     sync.Mutex // guards what follows; held for moments
	buffer []byte
	spare  []byte
	next   uint64
	recent [echoOf]uint64 // hashes, by number
	first  uint64         // number of the first record of this Log
	broken error
}

// NewLog goes on with the record next at the end of a file of size bytes. All before next are durable.
func NewLog(f file.File, size int64, tier [16]byte, next uint64) *Log {
	l := &Log{seed: Seed(tier), f: f, next: next, first: next}
	l.size.Store(size)
	l.written.Store(next - 1)
	l.synced.Store(next - 1)
	l.syncing.Store(next - 1)
	return l
}

// Append takes a record and gives it the next number. It only copies: nothing is written before the next Write or Sync.
func (l *Log) Append(kind uint8, hash uint64, body []byte) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	lsn := l.append(Record{Hash: hash, Kind: kind, Body: body})
	if l.next%echoEvery == 0 {
		l.echo()
	}
	return lsn
}

func (l *Log) append(r Record) uint64 {
	r.LSN, r.Synced = l.next, l.synced.Load()
	r.Before = l.recent[(r.LSN-1)%echoOf]
	l.recent[r.LSN%echoOf] = r.Hash
	l.next++
	if l.broken == nil { // else it would only grow
		l.buffer = AppendRecord(l.buffer, l.seed, r)
	}
	return r.LSN
}

// Echo repeats the hashes of the last records now: nobody knows when the next record comes.
func (l *Log) Echo() { l.mu.Lock(); defer l.mu.Unlock(); l.echo() }

func (l *Log) echo() {
	n := min(l.next-l.first, echoOf)
	body := make([]byte, 0, 8*echoOf)
	for lsn := l.next - n; lsn < l.next; lsn++ {
		body = binary.LittleEndian.AppendUint64(body, l.recent[lsn%echoOf])
	}
	l.append(Record{Hash: NoKey, Kind: KindEcho, Body: body})
}

// Last is the number of the last record that was appended.
func (l *Log) Last() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.next - 1 }

// Buffered is how many bytes wait to be written.
func (l *Log) Buffered() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.buffer) }

// Written is the number up to which all records are in the file: a process that dies does not lose them.
func (l *Log) Written() uint64 { return l.written.Load() }

// Synced is the number up to which all records are durable.
func (l *Log) Synced() uint64 { return l.synced.Load() }

// Syncing is the number up to which a sync may have made records durable, though it has not ended, or has failed.
func (l *Log) Syncing() uint64 { return l.syncing.Load() }

// Size is how long the file is.
func (l *Log) Size() int64 { return l.size.Load() }

// Err is why nothing can be promised any more.
func (l *Log) Err() error { l.mu.Lock(); defer l.mu.Unlock(); return l.broken }

// Write writes all records up to lsn, and those that came after it. When it fails nothing is lost: the next one tries again.
func (l *Log) Write(lsn uint64) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if l.written.Load() >= lsn {
		return nil
	}
	_, err := l.flush(nil)
	return err
}

// Sync makes all records up to lsn durable, and those that came after it. payload makes durable what the records are about; it
// is called before they are written.
func (l *Log) Sync(lsn uint64, payload func() error) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if l.synced.Load() >= lsn {
		return nil
	}
	return l.sync(payload)
}

func (l *Log) sync(payload func() error) error {
	upTo, err := l.flush(payload)
	if err != nil {
		return err
	}
	l.syncing.Store(upTo)
	if err := l.f.Sync(); err != nil {
		return l.fail(err)
	}
	l.synced.Store(upTo)
	return nil
}

// flush writes what is in memory. flushing is held.
func (l *Log) flush(payload func() error) (upTo uint64, err error) {
	l.mu.Lock()
	if l.broken != nil {
		defer l.mu.Unlock()
		return 0, l.broken
	}
	batch := l.buffer
	l.buffer, l.spare = l.spare[:0], nil
	upTo = l.next - 1
	l.mu.Unlock()

	if len(l.again) > 0 {
		batch, l.again = append(l.again, batch...), nil
	}
	if payload != nil {
		if err := payload(); err != nil {
			l.again = batch
			return 0, l.fail(err)
		}
	}
	if len(batch) > 0 {
		if _, err := l.f.WriteAt(batch, l.size.Load()); err != nil {
			l.again = batch
			return 0, err
		}
		l.size.Add(int64(len(batch)))
	}
	l.written.Store(upTo)
	l.keep(batch)
	return upTo, nil
}

// keep uses the memory of a batch for the one after the next.
func (l *Log) keep(batch []byte) {
	const most = 1 << 20
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spare == nil && cap(batch) <= most {
		l.spare = batch[:0]
	}
}

func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		if !errors.Is(err, ErrBroken) {
			err = fmt.Errorf("%w: %w", ErrBroken, err)
		}
		l.broken = err
	}
	return l.broken
}

// Rotate makes everything durable and goes on in another file. make is given the number that the new file begins with, and how
// long the old one is.
func (l *Log) Rotate(payload func() error, make func(first uint64, length int64) (file.File, error)) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if err := l.sync(payload); err != nil {
		return err
	}
	f, err := make(l.written.Load()+1, l.size.Load())
	if errors.Is(err, ErrBroken) { // the new file may be there, and then nothing behind the end of the old one counts
		return l.fail(err)
	}
	if err != nil {
		return err
	}
	old := l.f
	l.f = f
	l.size.Store(HeaderBytes)
	return old.Close()
}

// Close closes the file, and writes nothing.
func (l *Log) Close() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	_ = l.fail(file.ErrSystem)
	return l.f.Close()
}
