// A libibverbs.so for the tests: two devices in one process, whose queue pairs can be connected so that a read really copies
// memory. It checks what a device would check (keys, bounds, access, the order of states, the attributes of each step), and
// does wrong what it is told to: fake_set() below. Compiled against the real header, or with -DOWN_LAYOUT against ours.
#define _GNU_SOURCE
#ifdef OWN_LAYOUT
#include "layout.h"
#else
#include <infiniband/verbs.h>
#endif
#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { DEVICES = 2, QPS = 256, MRS = 4096, DEPTH = 4096, SGES = 16 };

// Settings. A fault that counts is taken once for each unit; an errno stays until it is taken back.
#define SETTINGS(X)                                                                                                        \
	X(devices, DEVICES) X(list_errno, 0) X(port_state, IBV_PORT_ACTIVE) X(link_layer, IBV_LINK_LAYER_ETHERNET)             \
	X(gid_errno, 0) X(gid_type, IBV_GID_TYPE_ROCE_V2) X(gids, 1) X(bad_gid, 0)                                                                     \
	X(max_qp_wr, 1024) X(max_cqe, 4096) X(max_message, 1 << 30) X(max_mr_size, 1L << 40) X(max_reads, 16) X(max_sge, 4)                  \
	X(open_errno, 0) X(pd_errno, 0) X(channel_errno, 0) X(cq_errno, 0) X(qp_errno, 0)                                     \
	X(reg_errno, 0) X(reg_after, 0) /* this one fails, and those after it do not */ X(dereg_errno, 0) X(destroy_qp_errno, 0) X(modify_errno, 0) X(modify_state, 0)                        \
	X(post_errno, 0)   /* post_send fails with it ... */                                                                  \
	X(post_after, 0)   /* ... after accepting so many requests */                                                         \
	X(delay_us, 0)     /* completions come so much later */                                                               \
	X(drop, 0)         /* so many requests are never completed, but by a flush */                                        \
	X(fail_status, 0)  /* a request fails with it ... */                                                                  \
	X(fail_after, 0)   /* ... after so many good ones */                                                                  \
	X(no_flush, 0)     /* a queue pair in the error state flushes nothing */                                              \
	X(short_poll, 0)   /* poll_cq gives at most so many */                                                                \
	X(poll_error, 0)   /* poll_cq fails */

// Counters, read by fake_get().
#define COUNTERS(X)                                                                                                        \
	X(live_contexts) X(live_pds) X(live_mrs) X(renamed) X(live_channels) X(live_cqs) X(live_qps)                                      \
	X(registrations) X(polls) X(notifies) X(posts) X(requests) X(signaled)                                                \
	X(overflows)      /* completions for which a queue had no room */                                                     \
	X(sq_overflows)   /* requests beyond the depth that was granted */                                                    \
	X(unacked)        /* objects destroyed with events that nobody acknowledged for two seconds; a real library waits on */         \
	X(write_grants)   /* times that somebody let a peer write or do atomics */                                            \
	X(endless)        /* times that somebody asked for endless retries */                                                 \
	X(busy)           /* objects destroyed before what stands on them */

#define FIELD(name, ...) long name;
static struct { SETTINGS(FIELD) } set;
static struct { COUNTERS(FIELD) } count;

struct request {
	uint64_t id, remote, due;
	struct ibv_sge to[SGES];
	int targets;
	uint32_t length, rkey;
	int signaled, dropped, opcode;
};

struct device {
	struct ibv_device device;
	int index;
};

struct context {
	struct ibv_context context;
	int index, dead, events[2], users;
};

/* All are on a list: who has one may be out of sight of a leak checker. They are counted. */
struct pd {
	struct ibv_pd pd;
	int users;
	struct pd *next;
};

static struct pd *pds;

struct cq {
	struct ibv_cq cq;
	struct ibv_wc *ring;
	unsigned head, tail, size;
	int armed, events, users;
};

struct qp {
	struct ibv_qp qp;
	struct request ring[DEPTH];
	unsigned head, tail, depth;
	uint32_t access, dest;
	union ibv_gid dgid;
	int events, sges;
};

struct mr {
	struct ibv_mr mr;  // addr is the one by which the device knows it
	char *pinned;      // where the stand-in finds its bytes
	uint32_t access;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t acked = PTHREAD_COND_INITIALIZER;
static struct device devices[DEVICES];
static struct context *contexts[64];
static struct qp *qps[QPS];
static struct mr *mrs[MRS];
static uint32_t generation; // of keys
static pthread_t clockwork;
static int clockwork_runs;

#define LOCKED for (int once = (pthread_mutex_lock(&lock), 1); once; once = (pthread_mutex_unlock(&lock), 0))

static uint64_t now_us(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void address_of(int device, union ibv_gid *gid) {
	memset(gid, 0, sizeof *gid);
	if (set.link_layer == IBV_LINK_LAYER_INFINIBAND) {
		gid->raw[0] = 0xfe;
		gid->raw[1] = 0x80;
	} else {
		memset(gid->raw + 10, 0xff, 2);
		gid->raw[12] = 127; // ::ffff:127.0.0.1 and .2
	}
	gid->raw[15] = (uint8_t)(device + 1);
}

// ---- what the device does ----

static void push(struct qp *q, struct request *r, int status) {
	struct cq *c = (struct cq *)q->qp.send_cq;
	if (c->head - c->tail == c->size) {
		count.overflows++;
		return;
	}
	struct ibv_wc *wc = &c->ring[c->head++ % c->size];
	memset(wc, 0, sizeof *wc);
	wc->wr_id = r->id;
	wc->status = status;
	wc->opcode = IBV_WC_RDMA_READ;
	wc->byte_len = status ? 0 : r->length;
	wc->qp_num = q->qp.qp_num;
	wc->vendor_err = status ? 0x77 : 0;
	if (c->armed && c->cq.channel) {
		c->armed = 0;
		if (write(((int *)(c->cq.channel + 1))[0], &c, sizeof c) != sizeof c)
			abort();
	}
}

static struct mr *by_key(uint32_t key) {
	struct mr *m = mrs[key % MRS];
	return m && m->mr.lkey == key ? m : NULL;
}

static int covers(struct mr *m, uint64_t addr, uint64_t length) {
	uint64_t base = (uint64_t)m->mr.addr;
	return addr >= base && length <= m->mr.length && addr - base <= m->mr.length - length;
}

static void to_error(struct qp *q) {
	q->qp.state = IBV_QPS_ERR;
	if (((struct context *)q->qp.context)->dead || set.no_flush)
		return;
	for (; q->tail != q->head; q->tail++)
		push(q, &q->ring[q->tail % DEPTH], IBV_WC_WR_FLUSH_ERR);
}

static struct qp *peer_of(struct qp *q) {
	struct qp *p = q->dest ? qps[q->dest % QPS] : NULL;
	union ibv_gid gid;
	if (!p || p->qp.qp_num != q->dest || p->dest != q->qp.qp_num)
		return NULL;
	if (p->qp.state != IBV_QPS_RTR && p->qp.state != IBV_QPS_RTS)
		return NULL;
	address_of(((struct context *)p->qp.context)->index, &gid);
	if (set.gids == 2)
		gid.raw[14] = q->dgid.raw[14];
	return memcmp(&gid, &q->dgid, sizeof gid) ? NULL : p;
}

static int execute(struct qp *q, struct request *r) {
	if (set.fail_status && set.fail_after-- == 0) {
		int status = (int)set.fail_status;
		set.fail_status = set.fail_after = 0;
		return status;
	}
	if (r->opcode != IBV_WR_RDMA_READ)
		return IBV_WC_LOC_QP_OP_ERR;
	if (r->length > set.max_message)
		return IBV_WC_LOC_LEN_ERR;
	struct mr *remote = by_key(r->rkey);
	for (int i = 0; i < r->targets; i++) {
		struct mr *local = by_key(r->to[i].lkey);
		if (!local || local->mr.pd != q->qp.pd || !covers(local, r->to[i].addr, r->to[i].length) ||
		    !(local->access & IBV_ACCESS_LOCAL_WRITE))
			return IBV_WC_LOC_PROT_ERR;
	}
	struct qp *peer = peer_of(q);
	if (!peer)
		return IBV_WC_RETRY_EXC_ERR;
	if (!remote || remote->mr.pd != peer->qp.pd || !covers(remote, r->remote, r->length) ||
	    !(remote->access & IBV_ACCESS_REMOTE_READ) || !(peer->access & IBV_ACCESS_REMOTE_READ)) {
		to_error(peer);
		return IBV_WC_REM_ACCESS_ERR;
	}
	const char *from = remote->pinned + (r->remote - (uint64_t)remote->mr.addr);
	for (int i = 0; i < r->targets; from += r->to[i++].length) {
		struct mr *local = by_key(r->to[i].lkey);
		memcpy(local->pinned + (r->to[i].addr - (uint64_t)local->mr.addr), from, r->to[i].length);
	}
	return IBV_WC_SUCCESS;
}

// progress completes what is due, in order.
static void progress(struct qp *q, uint64_t now) {
	while (q->tail != q->head && q->qp.state == IBV_QPS_RTS) {
		struct request *r = &q->ring[q->tail % DEPTH];
		if (r->dropped || r->due > now)
			return;
		int status = execute(q, r);
		q->tail++;
		if (status || r->signaled)
			push(q, r, status);
		if (status)
			to_error(q);
	}
}

static void *tick(void *unused) {
	(void)unused;
	for (;;) {
		usleep(200);
		LOCKED {
			uint64_t now = now_us();
			for (int i = 0; i < QPS; i++)
				if (qps[i] && !((struct context *)qps[i]->qp.context)->dead)
					progress(qps[i], now);
		}
	}
	return NULL;
}

// await_acks waits, as the real library does, until the events of an object have been acknowledged; but not for ever.
static void await_acks(const int *events) {
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 2;
	while (*events > 0)
		if (pthread_cond_timedwait(&acked, &lock, &limit)) {
			count.unacked++;
			return;
		}
}

// ---- the function table ----

static int post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad) {
	struct qp *q = (struct qp *)ibqp;
	int result = 0;
	LOCKED {
		count.posts++;
		uint64_t now = set.delay_us ? now_us() : 0;
		struct context *c = (struct context *)q->qp.context;
		for (; wr; wr = wr->next) {
			if (set.post_errno && set.post_after-- == 0) {
				result = (int)set.post_errno;
				set.post_errno = set.post_after = 0;
			} else if (c->dead) {
				result = EIO;
			} else if (q->qp.state != IBV_QPS_RTS && q->qp.state != IBV_QPS_ERR) {
				result = EINVAL;
			} else if (wr->num_sge < 1 || wr->num_sge > q->sges) {
				result = EINVAL;
			} else if (q->head - q->tail >= q->depth) {
				count.sq_overflows++;
				result = ENOMEM;
			}
			if (result) {
				*bad = wr;
				break;
			}
			count.requests++;
			count.signaled += (wr->send_flags & IBV_SEND_SIGNALED) != 0;
			struct request *r = &q->ring[q->head++ % DEPTH];
			r->id = wr->wr_id;
			r->remote = wr->wr.rdma.remote_addr;
			r->due = now + (uint64_t)set.delay_us;
			r->targets = wr->num_sge;
			r->rkey = wr->wr.rdma.rkey;
			r->signaled = (wr->send_flags & IBV_SEND_SIGNALED) != 0;
			r->dropped = set.drop > 0;
			r->opcode = (int)wr->opcode;
			r->length = 0;
			for (int i = 0; i < wr->num_sge; i++) {
				r->to[i] = wr->sg_list[i];
				r->length += wr->sg_list[i].length;
			}
			if (set.drop > 0)
				set.drop--;
		}
		if (q->qp.state == IBV_QPS_ERR)
			to_error(q);
		else if (!set.delay_us)
			progress(q, 0);
	}
	return result;
}

static int poll_cq(struct ibv_cq *ibcq, int n, struct ibv_wc *wc) {
	struct cq *c = (struct cq *)ibcq;
	int got = 0;
	LOCKED {
		count.polls++;
		if (set.short_poll && n > set.short_poll)
			n = (int)set.short_poll;
		for (; got < n && c->tail != c->head; got++)
			wc[got] = c->ring[c->tail++ % c->size];
		if (set.poll_error)
			got = -1;
	}
	return got;
}

static int notify(struct ibv_cq *ibcq, int solicited) {
	(void)solicited;
	LOCKED {
		count.notifies++;
		((struct cq *)ibcq)->armed = 1;
	}
	return 0;
}

// ---- the exported verbs ----

#define FAIL_IF(setting)                                                                                                   \
	if (set.setting) {                                                                                                     \
		errno = (int)set.setting;                                                                                          \
		return NULL;                                                                                                       \
	}

struct ibv_device **ibv_get_device_list(int *n) {
	FAIL_IF(list_errno)
	struct ibv_device **list = calloc(DEVICES + 1, sizeof *list);
	for (int i = 0; i < DEVICES && i < set.devices; i++) {
		devices[i].index = i;
		snprintf(devices[i].device.name, sizeof devices[i].device.name, "fake%d", i);
		list[i] = &devices[i].device;
	}
	*n = (int)set.devices;
	return list;
}

void ibv_free_device_list(struct ibv_device **list) { free(list); }

const char *ibv_get_device_name(struct ibv_device *d) { return d->name; }

const char *ibv_wc_status_str(enum ibv_wc_status status) { return status ? "failed" : "success"; }

struct ibv_context *ibv_open_device(struct ibv_device *d) {
	FAIL_IF(open_errno)
	struct context *c = calloc(1, sizeof *c);
	c->index = ((struct device *)d)->index;
	c->context.device = d;
	c->context.ops.poll_cq = poll_cq;
	c->context.ops.req_notify_cq = notify;
	c->context.ops.post_send = post_send;
	if (pipe2(c->events, O_CLOEXEC))
		abort();
	c->context.async_fd = c->events[0];
	LOCKED {
		count.live_contexts++;
		for (int i = 0; i < 64; i++)
			if (!contexts[i]) {
				contexts[i] = c;
				break;
			}
	}
	return &c->context;
}

// in_use says EBUSY while something stands on an object.
static int in_use(int users) {
	count.busy += users != 0;
	return users ? EBUSY : 0;
}

int ibv_close_device(struct ibv_context *context) {
	struct context *c = (struct context *)context;
	int busy = 0;
	LOCKED if (!(busy = in_use(c->users))) {
		count.live_contexts--;
		for (int i = 0; i < 64; i++)
			if (contexts[i] == c)
				contexts[i] = NULL;
	}
	if (busy)
		return busy;
	close(c->events[0]);
	close(c->events[1]);
	free(c);
	return 0;
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *a) {
	(void)context;
	memset(a, 0, sizeof *a);
	snprintf(a->fw_ver, sizeof a->fw_ver, "fake");
	a->max_mr_size = (uint64_t)set.max_mr_size;
	a->max_qp = QPS;
	a->max_qp_wr = (int)set.max_qp_wr;
	a->max_sge = SGES;
	a->max_sge_rd = (int)set.max_sge;
	a->max_cq = 64;
	a->max_cqe = (int)set.max_cqe;
	a->max_mr = MRS;
	a->max_qp_rd_atom = a->max_qp_init_rd_atom = (int)set.max_reads;
	a->phys_port_cnt = 1;
	return 0;
}

int ibv_query_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *out) {
	struct ibv_port_attr a = {0};
	if (port != 1)
		return EINVAL;
	a.state = set.port_state;
	a.max_mtu = IBV_MTU_4096;
	a.active_mtu = IBV_MTU_1024;
	a.gid_tbl_len = 4;
	a.max_msg_sz = (uint32_t)set.max_message;
	a.lid = set.link_layer == IBV_LINK_LAYER_INFINIBAND ? (uint16_t)(((struct context *)context)->index + 1) : 0;
	a.link_layer = (uint8_t)set.link_layer;
	memcpy(out, &a, 48);
	return 0;
}

int ibv_query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid) {
	if ((set.gid_errno && set.gid_errno != ENOSYS) || port != 1 || index > 3)
		return -1;
	memset(gid, 0, sizeof *gid);
	if ((index >= 1 && index <= set.gids) || set.link_layer == IBV_LINK_LAYER_INFINIBAND)
		address_of(((struct context *)context)->index, gid);
	if (index == 2 && set.gids == 2)
		gid->raw[14] = 1; // 127.0.1.1 and .2
	return 0;
}

int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port, uint32_t index, struct ibv_gid_entry *e, uint32_t flags,
	size_t size) {
	if (size != sizeof *e || flags)
		return EINVAL;
	memset(e, 0, sizeof *e);
	if (set.gid_errno)
		return (int)set.gid_errno;
	if (ibv_query_gid(context, (uint8_t)port, (int)index, &e->gid))
		return ENODATA;
	e->gid_index = index;
	e->port_num = port;
	e->gid_type = (uint32_t)set.gid_type;
	e->ndev_ifindex = 1;
	return 0;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context) {
	FAIL_IF(pd_errno)
	struct pd *p = calloc(1, sizeof *p);
	p->pd.context = context;
	LOCKED {
		count.live_pds++;
		((struct context *)context)->users++;
		p->next = pds;
		pds = p;
	}
	return &p->pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd) {
	int busy = 0;
	LOCKED if (!(busy = in_use(((struct pd *)pd)->users))) {
		count.live_pds--;
		((struct context *)pd->context)->users--;
		struct pd **at = &pds;
		while (*at != (struct pd *)pd)
			at = &(*at)->next;
		*at = (*at)->next;
	}
	if (!busy)
		free(pd);
	return busy;
}

static struct ibv_mr *make_mr(struct ibv_pd *pd, void *pinned, size_t length, void *addr, int access) {
	FAIL_IF(reg_errno)
	if (set.reg_after && --set.reg_after == 0) {
		errno = ENOMEM;
		return NULL;
	}
	struct mr *m = calloc(1, sizeof *m);
	int at = -1;
	m->mr.context = pd->context;
	m->mr.pd = pd;
	m->mr.addr = addr;
	m->mr.length = length;
	m->pinned = pinned;
	m->access = (uint32_t)access;
	LOCKED {
		for (int i = 0; i < MRS && at < 0; i++)
			if (!mrs[i])
				at = i;
		if (at >= 0) {
			m->mr.lkey = m->mr.rkey = ++generation * MRS + (uint32_t)at;
			mrs[at] = m;
			count.live_mrs++;
			count.registrations++;
			((struct pd *)pd)->users++;
			count.write_grants += (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0;
		}
	}
	if (at < 0) {
		free(m);
		errno = ENOMEM;
		return NULL;
	}
	return &m->mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access) {
	return make_mr(pd, addr, length, addr, access);
}

// The mapping at addr may go behind the call, the pages not: a second mapping of the same pages, which must be shared, stands
// for what a device pins.
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access) {
	void *again = mremap(addr, 0, length, MREMAP_MAYMOVE);
	if (again == MAP_FAILED)
		return NULL;
	struct ibv_mr *m = make_mr(pd, again, length, (void *)iova, access);
	if (!m) {
		int reason = errno;
		munmap(again, length);
		errno = reason;
		return NULL;
	}
	LOCKED { count.renamed++; }
	return m;
}

int ibv_dereg_mr(struct ibv_mr *mr) {
	struct mr *m = (struct mr *)mr;
	if (set.dereg_errno)
		return (int)set.dereg_errno;
	LOCKED {
		mrs[mr->lkey % MRS] = NULL;
		count.live_mrs--;
		((struct pd *)mr->pd)->users--;
	}
	if (m->pinned != (char *)mr->addr)
		munmap(m->pinned, mr->length);
	free(mr);
	return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context) {
	FAIL_IF(channel_errno)
	int ends[2];
	struct ibv_comp_channel *ch = calloc(1, sizeof *ch + sizeof(int)); // the writing end stands behind it
	if (pipe2(ends, O_CLOEXEC))
		abort();
	ch->context = context;
	ch->fd = ends[0];
	((int *)(ch + 1))[0] = ends[1];
	LOCKED {
		count.live_channels++;
		((struct context *)context)->users++;
	}
	return ch;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ch) {
	int busy = 0;
	LOCKED if (!(busy = in_use(ch->refcnt))) {
		count.live_channels--;
		((struct context *)ch->context)->users--;
	}
	if (busy)
		return busy;
	close(ch->fd);
	close(((int *)(ch + 1))[0]);
	free(ch);
	return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int n, void *user, struct ibv_comp_channel *ch, int vector) {
	FAIL_IF(cq_errno)
	if (n > set.max_cqe || n < 1 || vector) {
		errno = EINVAL;
		return NULL;
	}
	struct cq *c = calloc(1, sizeof *c);
	c->cq.context = context;
	c->cq.channel = ch;
	c->cq.cq_context = user;
	c->cq.cqe = n;
	c->size = (unsigned)n;
	c->ring = calloc((size_t)n, sizeof *c->ring);
	LOCKED {
		count.live_cqs++;
		((struct context *)context)->users++;
		if (ch)
			ch->refcnt++;
	}
	return &c->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq) {
	struct cq *c = (struct cq *)cq;
	int busy = 0;
	LOCKED if (!(busy = in_use(c->users))) {
		await_acks(&c->events);
		count.live_cqs--;
		((struct context *)cq->context)->users--;
		if (cq->channel)
			cq->channel->refcnt--;
	}
	if (busy)
		return busy;
	free(c->ring);
	free(c);
	return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ch, struct ibv_cq **cq, void **user) {
	struct cq *c;
	if (read(ch->fd, &c, sizeof c) != sizeof c)
		return -1;
	LOCKED { c->events++; } // those that nobody has read need no acknowledgement
	*cq = &c->cq;
	*user = c->cq.cq_context;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned n) {
	LOCKED {
		((struct cq *)cq)->events -= (int)n;
		pthread_cond_broadcast(&acked);
	}
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a) {
	FAIL_IF(qp_errno)
	if (a->qp_type != IBV_QPT_RC || a->cap.max_send_wr > set.max_qp_wr || a->cap.max_send_wr > DEPTH ||
	    a->cap.max_send_sge < 1 || a->cap.max_send_sge > set.max_sge || !a->send_cq || !a->recv_cq) {
		errno = EINVAL;
		return NULL;
	}
	static uint32_t numbers;
	struct qp *q = calloc(1, sizeof *q);
	int at = -1;
	q->qp.context = pd->context;
	q->qp.pd = pd;
	q->qp.send_cq = a->send_cq;
	q->qp.recv_cq = a->recv_cq;
	q->qp.qp_type = IBV_QPT_RC;
	q->depth = a->cap.max_send_wr;
	q->sges = (int)a->cap.max_send_sge;
	LOCKED {
		for (int tries = 0; tries < QPS && at < 0; tries++) {
			q->qp.qp_num = ++numbers;
			if (!qps[numbers % QPS])
				at = (int)(numbers % QPS);
		}
		if (at >= 0) {
			qps[at] = q;
			count.live_qps++;
			((struct pd *)pd)->users++;
			((struct cq *)a->send_cq)->users++;
		}
	}
	if (at < 0) {
		free(q);
		errno = ENOMEM;
		return NULL;
	}
	return &q->qp;
}

int ibv_destroy_qp(struct ibv_qp *qp) {
	struct qp *q = (struct qp *)qp;
	if (set.destroy_qp_errno)
		return (int)set.destroy_qp_errno;
	LOCKED {
		await_acks(&q->events);
		qps[qp->qp_num % QPS] = NULL;
		count.live_qps--;
		((struct pd *)qp->pd)->users--;
		((struct cq *)qp->send_cq)->users--;
	}
	free(q);
	return 0;
}

// step checks a change of state: the states, and all attributes that the change needs.
static int step(struct qp *q, struct ibv_qp_attr *a, int mask) {
	const int init = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	const int rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
		IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	const int rts = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
		IBV_QP_MAX_QP_RD_ATOMIC;
	switch ((int)a->qp_state) {
	case IBV_QPS_INIT:
		if (q->qp.state != IBV_QPS_RESET || mask != init || a->port_num != 1)
			return EINVAL;
		q->access = a->qp_access_flags;
		count.write_grants += (q->access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0;
		break;
	case IBV_QPS_RTR:
		if (q->qp.state != IBV_QPS_INIT || mask != rtr || (int)a->path_mtu < IBV_MTU_256 || a->path_mtu > IBV_MTU_1024 ||
		    a->max_dest_rd_atomic > set.max_reads || a->ah_attr.port_num != 1)
			return EINVAL;
		if (set.bad_gid && a->ah_attr.grh.sgid_index == set.bad_gid)
			return ETIMEDOUT;
		q->dest = a->dest_qp_num;
		if (a->ah_attr.is_global) {
			q->dgid = a->ah_attr.grh.dgid;
		} else {
			if (set.link_layer == IBV_LINK_LAYER_ETHERNET || !a->ah_attr.dlid)
				return EINVAL;
			address_of(a->ah_attr.dlid - 1, &q->dgid);
		}
		break;
	case IBV_QPS_RTS:
		if (q->qp.state != IBV_QPS_RTR || mask != rts || a->max_rd_atomic > set.max_reads)
			return EINVAL;
		count.endless += a->retry_cnt == 7 || a->rnr_retry == 7;
		break;
	case IBV_QPS_ERR:
		if (mask != IBV_QP_STATE)
			return EINVAL;
		to_error(q);
		return 0;
	default:
		return EINVAL;
	}
	q->qp.state = a->qp_state;
	return 0;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *a, int mask) {
	int result;
	LOCKED {
		if (set.modify_errno && (set.modify_state == 0 || set.modify_state == (long)a->qp_state))
			result = (int)set.modify_errno;
		else if (((struct context *)qp->context)->dead)
			result = EIO;
		else
			result = step((struct qp *)qp, a, mask);
	}
	return result;
}

int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *e) {
	return read(context->async_fd, e, sizeof *e) == sizeof *e ? 0 : -1;
}

void ibv_ack_async_event(struct ibv_async_event *e) {
	LOCKED {
		if (e->event_type == IBV_EVENT_QP_FATAL || e->event_type == IBV_EVENT_QP_ACCESS_ERR)
			((struct qp *)e->element.qp)->events--;
		pthread_cond_broadcast(&acked);
	}
}

// ---- for the tests ----

#define SET(name, value) set.name = value;
#define CLEAR(name, ...) count.name = 0;

// fake_reset takes all faults back.
void fake_reset(void) {
	LOCKED { SETTINGS(SET) }
}

#define SET_ONE(name, value)                                                                                               \
	if (!strcmp(what, #name)) {                                                                                            \
		set.name = to;                                                                                                     \
		found = 1;                                                                                                         \
	}
int fake_set(const char *what, long to) {
	int found = 0;
	LOCKED { SETTINGS(SET_ONE) }
	if (!strcmp(what, "delay_us") && to && !clockwork_runs)
		clockwork_runs = !pthread_create(&clockwork, NULL, tick, NULL);
	return found;
}

#define GET_ONE(name, ...)                                                                                                 \
	if (!strcmp(what, #name))                                                                                              \
		value = count.name;
long fake_get(const char *what) {
	long value = -1;
	LOCKED { COUNTERS(GET_ONE) }
	return value;
}

// fake_event raises an event at every context of a device, for each of its queue pairs where the event is about one.
// DEVICE_FATAL removes the device: what is under way never completes, and only destroying still succeeds.
void fake_event(int device, int type) {
	LOCKED for (int i = 0; i < 64; i++) {
		struct context *c = contexts[i];
		struct ibv_async_event e = {.event_type = type};
		if (!c || c->index != device)
			continue;
		if (type == IBV_EVENT_DEVICE_FATAL)
			c->dead = 1;
		if (type != IBV_EVENT_QP_FATAL && type != IBV_EVENT_QP_ACCESS_ERR && type != IBV_EVENT_CQ_ERR) {
			e.element.port_num = 1;
			if (write(c->events[1], &e, sizeof e) != sizeof e)
				abort();
			continue;
		}
		for (int j = 0; j < QPS; j++)
			if (qps[j] && qps[j]->qp.context == &c->context) {
				e.element.qp = &qps[j]->qp;
				if (type == IBV_EVENT_CQ_ERR)
					e.element.cq = qps[j]->qp.send_cq;
				else
					qps[j]->events++;
				if (write(c->events[1], &e, sizeof e) != sizeof e)
					abort();
			}
	}
}

// From outside of the process: FAKE_VERBS="devices=0 open_errno=13".
__attribute__((constructor)) static void start(void) {
	fake_reset();
	const char *given = getenv("FAKE_VERBS");
	char name[64];
	long to;
	for (int used; given && sscanf(given, " %63[^=]=%ld%n", name, &to, &used) == 2; given += used)
		if (!fake_set(name, to))
			abort();
}
