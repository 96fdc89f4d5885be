//go:build cgo && linux && (amd64 || arm64)

package shim

/*
#cgo CFLAGS: -O2
#include <stddef.h>
#include <stdint.h>
#include <time.h>

// What Go passes: shim.Read.
struct read {
	uint64_t remote, id;
	uint32_t rkey, first, n, signaled;
};

// ibv_sge, ibv_send_wr and ibv_wc, so that no header of the library is needed to build. ibv.SGE, ibv.SendWR and ibv.WC are
// the same, and they are compared with the real header in a test.
struct sge {
	uint64_t addr;
	uint32_t length, lkey;
};
struct wr {
	uint64_t id;
	struct wr *next;
	struct sge *list;
	int32_t n;
	uint32_t opcode, flags, imm;
	uint64_t remote;
	uint32_t rkey, room;
	uint64_t rest[9];
};
struct wc {
	uint64_t id;
	uint32_t status, opcode, vendor, length, imm, qpn, source, flags;
	uint16_t pkey, slid;
	uint8_t sl, path;
};
_Static_assert(sizeof(struct sge) == 16 && sizeof(struct wr) == 128 && sizeof(struct wc) == 48, "sizes");
_Static_assert(offsetof(struct wr, opcode) == 28 && offsetof(struct wr, remote) == 40 && offsetof(struct wr, rkey) == 48, "wr");
_Static_assert(sizeof(struct read) == 32, "read");

enum { MAX_CHAIN = 64, RDMA_READ = 4, SIGNALED = 2 };

typedef int (*post_function)(void *qp, struct wr *, struct wr **bad);
typedef int (*poll_function)(void *cq, int, struct wc *);

// Returns what post_send returned; done is how many were taken. The device reads the targets before it returns.
static int post_chain(uintptr_t post, uintptr_t qp, const struct read *r, int n, struct sge *targets, int *done) {
	struct wr w[MAX_CHAIN], *bad = w;
	if (n > MAX_CHAIN)
		n = MAX_CHAIN;
	for (int i = 0; i < n; i++) {
		// What lies behind rkey belongs to other operations than reads.
		w[i].id = r[i].id;
		w[i].next = i + 1 < n ? &w[i + 1] : NULL;
		w[i].list = targets + r[i].first;
		w[i].n = (int32_t)r[i].n;
		w[i].opcode = RDMA_READ;
		w[i].flags = r[i].signaled ? SIGNALED : 0;
		w[i].imm = 0;
		w[i].remote = r[i].remote;
		w[i].rkey = r[i].rkey;
	}
	int result = ((post_function)post)((void *)qp, w, &bad);
	*done = result ? (int)(bad - w) : n;
	return result;
}

static int64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int poll_for(uintptr_t poll, uintptr_t cq, struct wc *wc, int n, int64_t spin) {
	int got = ((poll_function)poll)((void *)cq, n, wc);
	if (got || spin <= 0)
		return got;
	for (int64_t end = now_ns() + spin; now_ns() < end;)
		if ((got = ((poll_function)poll)((void *)cq, n, wc)))
			return got;
	return 0;
}
*/
import "C"

import (
	"time"
	"unsafe"

	"moorage/rdma/internal/ibv"
)

// InC says whether chains are built in C.
const InC = true

// Poster posts chains. It is not safe for concurrent use.
type Poster struct{ done C.int }

// NewPoster makes a Poster.
func NewPoster() (*Poster, error) { return &Poster{}, nil }

// Close does nothing: there is no memory to give back.
func (p *Poster) Close() error { return nil }

// Post posts at most MaxChain reads into those of the targets that they name, and says how many of them the device took. The rest
// was refused with the error.
func (p *Poster) Post(qp ibv.QP, reads []Read, targets []ibv.SGE) (int, error) {
	if len(reads) == 0 {
		return 0, nil
	}
	if err := named(reads, len(targets)); err != nil {
		return 0, err
	}
	n := min(len(reads), MaxChain)
	code := C.post_chain(C.uintptr_t(qp.PostFunc()), C.uintptr_t(qp), (*C.struct_read)(unsafe.Pointer(&reads[0])), C.int(n),
		(*C.struct_sge)(unsafe.Pointer(&targets[0])), &p.done)
	if code == 0 {
		return n, nil
	}
	return accepted(int64(p.done), n), postError(int32(code))
}

// Poll takes completions. It tries for the time of spin until there is at least one; -1 says that the queue is broken.
func Poll(cq ibv.CQ, wc []ibv.WC, spin time.Duration) int {
	if len(wc) == 0 {
		return 0
	}
	return int(C.poll_for(C.uintptr_t(cq.PollFunc()), C.uintptr_t(cq), (*C.struct_wc)(unsafe.Pointer(&wc[0])), C.int(len(wc)), C.int64_t(spin)))
}
