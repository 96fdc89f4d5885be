package rdma

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// The pause before a peer that could not be reached is tried again, doubled each time.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = 2 * time.Second
)

// Link keeps a connection to a peer, and makes a new one after an error. It is safe for concurrent use.
type Link struct {
	domain  *Domain
	dial    func(context.Context) (net.Conn, error)
	options ConnOptions

	dialing chan struct{} // holds one token: who dials has it
	mu      sync.Mutex
	conn    *Conn
	closed  bool
	pause   time.Duration
	until   time.Time // no attempt before
	dials   int
}

// NewLink makes a Link that dials control connections. Nothing is dialed before the first use.
func (d *Domain) NewLink(dial func(context.Context) (net.Conn, error), o ConnOptions) (*Link, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Link{domain: d, dial: dial, options: o, dialing: make(chan struct{}, 1)}
	l.dialing <- struct{}{}
	return l, nil
}

// Conn gives the present connection, or makes one: it waits, as long as ctx allows, for the pause after a failed attempt, then
// tries once.
func (l *Link) Conn(ctx context.Context) (*Conn, error) {
	if c, err := l.present(); c != nil || err != nil {
		return c, err
	}
	select {
	case <-l.dialing:
		defer func() { l.dialing <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c, err := l.present()
	if c != nil || err != nil {
		return c, err
	}
	if err := l.awaitPause(ctx); err != nil {
		return nil, err
	}
	c, err = l.connect(ctx)
	return c, l.settle(c, err)
}

func (l *Link) present() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("link: %w", ErrClosed)
	}
	if l.conn != nil && l.conn.Err() == nil {
		return l.conn, nil
	}
	return nil, nil
}

func (l *Link) awaitPause(ctx context.Context) error {
	l.mu.Lock()
	wait := time.Until(l.until)
	l.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Link) connect(ctx context.Context) (*Conn, error) {
	l.mu.Lock()
	l.dials++
	l.mu.Unlock()
	control, err := l.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerLost, err)
	}
	return l.domain.Connect(ctx, control, l.options)
}

// settle keeps a new connection, or the pause before the next attempt.
func (l *Link) settle(c *Conn, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.pause = min(max(2*l.pause, firstPause), longestPause)
		l.until = time.Now().Add(l.pause)
		return err
	}
	l.conn, l.pause, l.until = c, 0, time.Time{}
	if l.closed {
		go c.fail(ErrClosed)
		return fmt.Errorf("link: %w", ErrClosed)
	}
	return nil
}

// Dials is how often a control connection was asked for.
func (l *Link) Dials() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials
}

// Read reads, over a new connection if need be. What failed together with a connection, or because none could be made, is
// tried again until ctx or the connection's Timeout ends; a read that the peer does not allow, or whose target is in quarantine,
// is not.
func (l *Link) Read(ctx context.Context, reads []Read) error {
	ctx, cancel := context.WithTimeout(ctx, l.options.Timeout)
	defer cancel()
	for {
		c, err := l.Conn(ctx)
		if err == nil {
			if err = c.Read(ctx, reads); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil || !Retryable(err) {
			return err
		}
	}
}

// Close ends the connection. Reads under way end with an error.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Close()
}

// Serve accepts connections from listener until it is closed or ctx ends, and gives each to use in a goroutine of its own. The
// connection is closed when use returns. An attempt that fails is told to failed, if that is not nil, and does no harm to others.
func (d *Domain) Serve(ctx context.Context, listener net.Listener, o ConnOptions, use func(*Conn), failed func(error)) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		control, err := listener.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				_ = control.Close()
			}
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		running.Go(func() {
			c, err := d.Accept(ctx, control, o)
			if err != nil {
				if failed != nil {
					failed(err)
				}
				return
			}
			use(c)
			_ = c.Close()
		})
	}
}
