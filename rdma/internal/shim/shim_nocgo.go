//go:build !cgo || !linux || !(amd64 || arm64)

package shim

import (
	"time"

	"moorage/rdma/internal/ibv"
)

// InC says whether chains are built in C.
const InC = false

// Poster posts chains. It is not safe for concurrent use.
type Poster struct{ PurePoster }

// NewPoster makes a Poster.
func NewPoster() (*Poster, error) {
	p, err := NewPurePoster()
	if err != nil {
		return nil, err
	}
	return &Poster{*p}, nil
}

// Poll takes completions. It tries for the time of spin until there is at least one; -1 says that the queue is broken.
func Poll(cq ibv.CQ, wc []ibv.WC, spin time.Duration) int { return PurePoll(cq, wc, spin) }
