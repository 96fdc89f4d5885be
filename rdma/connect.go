package rdma

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"time"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

// ConnOptions are the choices for a connection. Zero is the default of each.
type ConnOptions struct {
	QueuePairs   int           // 1; the one who connects decides
	Depth        int           // reads under way on each queue pair, 256
	Timeout      time.Duration // of a batch, 10 s
	Handshake    time.Duration // of connecting, 10 s
	AckTimeout   int           // 4.096 µs << this for a packet to be acknowledged, 14 (67 ms)
	Retries      int           // of a packet, 1 to 6, default 6. (Some devices take 7 to be endless.)
	ServiceLevel int           // InfiniBand, and priority on lossless Ethernet
	TrafficClass int           // of the IP header
	Offers       []RemoteRegion
}

func (o *ConnOptions) complete() error {
	for _, f := range []struct {
		name                string
		value               *int
		least, most, absent int
	}{
		{"QueuePairs", &o.QueuePairs, 1, maxQueues, 1},
		{"Depth", &o.Depth, 1, 1 << 14, 256},
		{"AckTimeout", &o.AckTimeout, 1, 31, 14},
		{"Retries", &o.Retries, 1, 6, 6},
		{"ServiceLevel", &o.ServiceLevel, 0, 15, 0},
		{"TrafficClass", &o.TrafficClass, 0, 255, 0},
	} {
		if *f.value == 0 {
			*f.value = f.absent
		}
		if *f.value < f.least || *f.value > f.most {
			return invalidf("%s must be between %d and %d", f.name, f.least, f.most)
		}
	}
	if o.Timeout < 0 || o.Handshake < 0 {
		return invalidf("Timeout and Handshake must not be negative")
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Handshake == 0 {
		o.Handshake = 10 * time.Second
	}
	if len(o.Offers) > maxOffers {
		return invalidf("more than %d Offers", maxOffers)
	}
	return nil
}

// rnrRetries is how often a peer that is not ready is asked again; 7 would be for ever.
const (
	rnrRetries  = 6
	minRNRTimer = 12
	hopLimit    = 64
)

// Connect greets the peer at the other end of control, which must be in Accept. From now on control belongs to the connection, also
// when connecting fails: it is closed then.
func (d *Domain) Connect(ctx context.Context, control net.Conn, o ConnOptions) (*Conn, error) {
	return d.shake(ctx, control, o, (*Conn).greet)
}

// Accept answers a peer that is in Connect.
func (d *Domain) Accept(ctx context.Context, control net.Conn, o ConnOptions) (*Conn, error) {
	return d.shake(ctx, control, o, (*Conn).answer)
}

func (d *Domain) shake(ctx context.Context, control net.Conn, o ConnOptions, talk func(*Conn) error) (*Conn, error) {
	c, err := d.newConn(control, o)
	if err != nil {
		_ = control.Close()
		return nil, err
	}
	defer d.leave()
	limit := time.Now().Add(c.options.Handshake)
	if at, ok := ctx.Deadline(); ok && at.Before(limit) {
		limit = at
	}
	err = control.SetDeadline(limit)
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Unix(1, 0)) })
	if err == nil {
		err = talk(c)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = control.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, c.abandon(err))
	}
	d.mu.Lock()
	d.conns[c] = struct{}{}
	unfit := d.unfit()
	d.mu.Unlock()
	go c.listen()
	if unfit != nil {
		c.fail(unfit)
	}
	return c, nil
}

func (d *Domain) newConn(control net.Conn, o ConnOptions) (*Conn, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if _, err := d.enter(); err != nil {
		return nil, err
	}
	o.Depth = min(o.Depth, int(d.attr.MaxQPWR))
	return &Conn{domain: d, options: o, control: control, gone: make(chan struct{}), broken: make(chan struct{}),
		settled: make(chan struct{}), heard: make(chan struct{})}, nil
}

// abandon ends a connection that never was one, and tells the peer why unless it knows.
func (c *Conn) abandon(cause error) error {
	if !errors.Is(cause, ErrRefused) {
		_ = c.control.SetDeadline(time.Now().Add(time.Second))
		_ = refuse(c.control, cause)
	}
	_ = c.control.Close()
	c.mu.Lock()
	c.cause = cause
	c.mu.Unlock()
	close(c.settled)
	return c.destroy(cause)
}

// greet is the side that begins: greeting, answer, ready.
func (c *Conn) greet() error {
	mine, port, err := c.prepare(c.options.QueuePairs)
	if err != nil {
		return err
	}
	if err := writeFrame(c.control, frameHello, mine.encode()); err != nil {
		return lost(err)
	}
	if err := c.readHello(mine); err != nil {
		return err
	}
	if len(c.peer.queues) != len(c.queues) {
		return fmt.Errorf("%w: %d queue pairs for our %d", ErrProtocol, len(c.peer.queues), len(c.queues))
	}
	if err := c.connectQueues(mine, port); err != nil {
		return err
	}
	return lost(writeFrame(c.control, frameReady, nil))
}

// answer is the other side: it may not post before the first side is ready.
func (c *Conn) answer() error {
	body, err := readKind(c.control, frameHello)
	if err != nil {
		return lost(err)
	}
	if c.peer, err = decodeHello(body); err != nil {
		return err
	}
	mine, port, err := c.prepare(len(c.peer.queues))
	if err != nil {
		return err
	}
	if err := c.agree(mine); err != nil {
		return err
	}
	if err := c.connectQueues(mine, port); err != nil {
		return err
	}
	if err := writeFrame(c.control, frameHello, mine.encode()); err != nil {
		return lost(err)
	}
	_, err = readKind(c.control, frameReady)
	return lost(err)
}

// lost marks an error of the control connection itself.
func lost(err error) error {
	if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrProtocol) {
		return err
	}
	return fmt.Errorf("%w: control connection: %w", ErrPeerLost, err)
}

func (c *Conn) readHello(mine *hello) error {
	body, err := readKind(c.control, frameHello)
	if err != nil {
		return lost(err)
	}
	if c.peer, err = decodeHello(body); err != nil {
		return err
	}
	return c.agree(mine)
}

// agree checks that the two ends fit together, and settles what depends on both.
func (c *Conn) agree(mine *hello) error {
	if mine.linkLayer != c.peer.linkLayer {
		return fmt.Errorf("%w: one end is InfiniBand, the other Ethernet", ErrRefused)
	}
	c.most = uint64(min(mine.maxMessage, c.peer.maxMessage, maxPiece))
	return nil
}

// end is what this end's queue pairs are connected with.
type end struct {
	gid   candidate
	reads uint8 // under way at a time, as far as the device can
}

// prepare makes the queue pairs and describes them.
func (c *Conn) prepare(queues int) (*hello, end, error) {
	d := c.domain
	p, err := d.verbs.QueryPort(d.context, d.port)
	if err != nil {
		return nil, end{}, called("ibv_query_port", err)
	}
	infiniBand := p.LinkLayer == ibv.LinkInfiniBand
	gid, err := d.chooseGID(infiniBand, int(p.GIDTableLen), addrOf(c.control.LocalAddr()), addrOf(c.control.RemoteAddr()))
	if err != nil {
		return nil, end{}, err
	}
	link := uint8(ibv.LinkEthernet) // as devices say, or say nothing
	if infiniBand {
		link = ibv.LinkInfiniBand
	}
	h := &hello{linkLayer: link, mtu: uint8(min(max(p.ActiveMTU, ibv.MTU256), ibv.MTU4096)), lid: p.LID, gid: gid.gid,
		reads: uint8(min(d.attr.MaxQPReadAtomic, maxReads)), epoch: d.epoch, maxMessage: max(p.MaxMessage, 1), offers: c.options.Offers}
	for range queues {
		q, err := c.newQueue()
		if err != nil {
			return nil, end{}, err
		}
		var r [4]byte
		if _, err := rand.Read(r[:]); err != nil {
			return nil, end{}, fmt.Errorf("packet sequence number: %w", err)
		}
		h.queues = append(h.queues, address{q.qp.Number(), binary.BigEndian.Uint32(r[:]) >> 8})
	}
	return h, end{gid: gid, reads: uint8(min(d.attr.MaxQPInitReadAtomic, maxReads))}, nil
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// newQueue makes a queue pair and puts it into the state in which it can be connected.
func (c *Conn) newQueue() (*queue, error) {
	d := c.domain
	poster, err := shim.NewPoster()
	if err != nil {
		return nil, fmt.Errorf("memory for work requests: %w", err)
	}
	depth := uint32(c.options.Depth)
	q := &queue{conn: c, depth: depth, poster: poster, ring: make([]posted, 1<<bits.Len32(depth-1)), most: d.targets()}
	q.targets = make([]ibv.SGE, shim.MaxChain*q.most)
	if err := d.seatQueue(q); err != nil {
		return nil, errors.Join(err, poster.Close())
	}
	init := ibv.QPInitAttr{SendCQ: q.poller.cq, RecvCQ: q.poller.cq, Type: ibv.TypeRC,
		Cap: ibv.QPCap{MaxSendWR: depth, MaxSendSGE: uint32(q.most)}}
	if q.qp, err = d.verbs.CreateQP(d.pd, &init); err != nil {
		d.mu.Lock()
		q.poller.unseat(q)
		d.mu.Unlock()
		return nil, errors.Join(called("ibv_create_qp", err), poster.Close())
	}
	c.mu.Lock()
	c.queues = append(c.queues, q)
	c.mu.Unlock()
	q.poller.slots[q.slot].Store(q)
	err = d.verbs.ModifyQP(q.qp, &ibv.QPAttr{State: ibv.StateInit, Port: d.port, Access: ibv.AccessRemoteRead},
		ibv.AttrState|ibv.AttrPKeyIndex|ibv.AttrPort|ibv.AttrAccess)
	return q, called("ibv_modify_qp to INIT", err)
}

// connectQueues leads each queue pair to its counterpart.
func (c *Conn) connectQueues(mine *hello, e end) error {
	for i, q := range c.queues {
		to := c.peer.queues[i]
		attr := ibv.QPAttr{
			State: ibv.StateRTR, PathMTU: uint32(min(mine.mtu, c.peer.mtu)), DestQPN: to.number, RQPSN: to.sequence,
			MaxDestReadAtomic: mine.reads, MinRNRTimer: minRNRTimer, AH: c.route(mine, e),
		}
		err := c.domain.verbs.ModifyQP(q.qp, &attr, ibv.AttrState|ibv.AttrAV|ibv.AttrPathMTU|ibv.AttrDestQPN|ibv.AttrRQPSN|
			ibv.AttrMaxDestReadAtomic|ibv.AttrMinRNRTimer)
		c.domain.routed(e.gid.gid, err == nil)
		if err != nil {
			return fmt.Errorf("%w: from %s to %s: %w", ErrPeerLost, e.gid.addr(), candidate{gid: c.peer.gid}.addr(),
				called("ibv_modify_qp to RTR", err))
		}
		attr = ibv.QPAttr{
			State: ibv.StateRTS, Timeout: uint8(c.options.AckTimeout), RetryCount: uint8(c.options.Retries), RNRRetry: rnrRetries,
			SQPSN: mine.queues[i].sequence, MaxReadAtomic: min(e.reads, c.peer.reads),
		}
		err = c.domain.verbs.ModifyQP(q.qp, &attr, ibv.AttrState|ibv.AttrTimeout|ibv.AttrRetryCount|ibv.AttrRNRRetry|ibv.AttrSQPSN|
			ibv.AttrMaxReadAtomic)
		if err != nil {
			return called("ibv_modify_qp to RTS", err)
		}
	}
	return nil
}

// route is the way to the peer. Within an InfiniBand subnet the LID is enough.
func (c *Conn) route(mine *hello, e end) ibv.AH {
	ah := ibv.AH{Port: c.domain.port, SL: uint8(c.options.ServiceLevel), DLID: c.peer.lid}
	sameSubnet := [8]byte(mine.gid[:8]) == [8]byte(c.peer.gid[:8])
	if mine.linkLayer == ibv.LinkInfiniBand && sameSubnet && c.peer.lid != 0 {
		return ah
	}
	ah.IsGlobal, ah.DGID, ah.SGIDIndex = 1, c.peer.gid, uint8(e.gid.index)
	ah.HopLimit, ah.TrafficClass = hopLimit, uint8(c.options.TrafficClass)
	return ah
}
