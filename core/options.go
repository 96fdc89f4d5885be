package core

import (
	"runtime"

	"moorage/core/arena"
	"moorage/core/cost"
	"moorage/core/tier/timing"
)

// Eviction is what a full store does.
type Eviction uint8

const (
	// EvictNone answers with a CapacityError; nothing is ever lost.
	EvictNone Eviction = iota
	// EvictS3FIFO drops objects that are neither viewed nor pinned (core/evict).
	EvictS3FIFO
)

// Options say how a store is opened. The zero value is the default.
type Options struct {
	Capacity  uint64 // bytes of tensor memory; 0 = a quarter of what the process may use
	Eviction  Eviction
	HugePages arena.HugePages
	Prefault  arena.Prefault
	Disk      DiskOptions
	Jobs      JobOptions

	Registering cost.Policy // what transfers do with memory of the caller's that is not registered
}

// JobOptions bound what is submitted to a store. The zero value is the default.
type JobOptions struct {
	Workers int // keys that are worked on at a time; 0 = twice the processors, from 4 to 64
	Keys    int // keys that may be unfinished; 0 = 65536
}

const maxWorkers = 1024

func (o *JobOptions) settle() error {
	if o.Workers < 0 || o.Workers > maxWorkers || o.Keys < 0 {
		return failf("open", ErrInvalid, "jobs: %d workers, %d keys", o.Workers, o.Keys)
	}
	if o.Workers == 0 {
		o.Workers = max(4, min(2*runtime.GOMAXPROCS(0), 64))
	}
	if o.Keys == 0 {
		o.Keys = 1 << 16
	}
	return nil
}

func (o *Options) check() error {
	if o.Eviction > EvictS3FIFO {
		return failf("open", ErrInvalid, "eviction %d", o.Eviction)
	}
	if !o.Registering.Valid() {
		return failf("open", ErrInvalid, "registering: %v", o.Registering)
	}
	if err := o.Disk.check(); err != nil {
		return err
	}
	return o.Jobs.settle()
}

// IfExists says what a put does with a key that is taken.
type IfExists uint8

const (
	Replace IfExists = iota // the new object takes the name; views of the old one stay
	Keep                    // the old object stays
	Raise                   // ErrExists
)

// Outcome says what a put did.
type Outcome uint8

const (
	Stored  Outcome = iota
	Kept            // the key was taken and IfExists was Keep
	Adopted         // stored without a copy
)

// PutOptions are the options of all puts and commits.
type PutOptions struct {
	IfExists  IfExists
	Meta      []byte // user metadata, copied
	AsBytes   bool   // PutTensor: store the gathered bytes without dtype and shape
	NoProtect bool   // commit: leave the producer's pages writable

	since int64 // when it began to wait for its turn, as timing.Now counts; 0: it did not
}

// Queued are the options of the puts of a batch, which wait for each other from now on: it shows in their times.
func (o PutOptions) Queued() PutOptions {
	o.since = timing.Now()
	return o
}

// PutResult is what a put did. Seq is the number of the commit; after Kept that of the object that is there.
type PutResult struct {
	Seq     uint64
	Outcome Outcome
}
