package rdma

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"moorage/rdma/internal/ibv"
)

// The messages of the control connection: four bytes of length, a kind, a body. All numbers are big-endian.
const (
	frameHello  = 1
	frameReady  = 2 // no body
	frameRefuse = 3 // one byte: 1 when another attempt may succeed; a text
	frameBye    = 4 // no body

	protocolMagic   = 0x4d6f6f72
	protocolVersion = 1

	maxFrame   = 64 << 10
	maxRefusal = 1 << 10
	maxQueues  = 16
	maxOffers  = 1024
)

const (
	helloHead   = 4 + 2 + 1 + 1 + 1 + 1 + 2 + 16 + 8 + 4 + 2 + 2
	helloQueue  = 8
	helloRegion = 28
)

// hello is what each side tells of its end of a connection.
type hello struct {
	linkLayer  uint8
	mtu        uint8 // as verbs count it
	reads      uint8 // that a queue pair answers at a time
	lid        uint16
	gid        ibv.GID
	epoch      uint64
	maxMessage uint32
	queues     []address
	offers     []RemoteRegion
}

// address is where a queue pair is reached, and the sequence number of its first packet.
type address struct{ number, sequence uint32 }

func (h *hello) encode() []byte {
	b := make([]byte, 0, helloHead+helloQueue*len(h.queues)+helloRegion*len(h.offers))
	b = binary.BigEndian.AppendUint32(b, protocolMagic)
	b = binary.BigEndian.AppendUint16(b, protocolVersion)
	b = append(b, h.linkLayer, h.mtu, h.reads, 0)
	b = binary.BigEndian.AppendUint16(b, h.lid)
	b = append(b, h.gid[:]...)
	b = binary.BigEndian.AppendUint64(b, h.epoch)
	b = binary.BigEndian.AppendUint32(b, h.maxMessage)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.queues)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.offers)))
	for _, q := range h.queues {
		b = binary.BigEndian.AppendUint32(b, q.number)
		b = binary.BigEndian.AppendUint32(b, q.sequence)
	}
	for _, r := range h.offers {
		b = r.AppendBinary(b)
	}
	return b
}

// AppendBinary appends the 28 bytes that describe the region.
func (r RemoteRegion) AppendBinary(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.Addr)
	b = binary.BigEndian.AppendUint64(b, r.Length)
	b = binary.BigEndian.AppendUint32(b, r.RKey)
	return binary.BigEndian.AppendUint64(b, r.Epoch)
}

// ParseRemoteRegion reads what AppendBinary wrote.
func ParseRemoteRegion(b []byte) (r RemoteRegion, err error) {
	if len(b) != helloRegion {
		return r, fmt.Errorf("%w: a region is described by %d bytes, not %d", ErrProtocol, helloRegion, len(b))
	}
	r.Addr, r.Length = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	r.RKey, r.Epoch = binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint64(b[20:])
	if r.Length == 0 || r.Length > math.MaxUint64-r.Addr {
		return r, fmt.Errorf("%w: a region of %d bytes at %#x", ErrProtocol, r.Length, r.Addr)
	}
	return r, nil
}

// decodeHello believes nothing: every number is checked before it reaches a verb.
func decodeHello(b []byte) (*hello, error) {
	if len(b) < helloHead || binary.BigEndian.Uint32(b) != protocolMagic {
		return nil, fmt.Errorf("%w: not a greeting", ErrProtocol)
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != protocolVersion {
		return nil, fmt.Errorf("%w: it has version %d, we have %d", ErrProtocol, v, protocolVersion)
	}
	h := &hello{linkLayer: b[6], mtu: b[7], reads: b[8], lid: binary.BigEndian.Uint16(b[10:]), gid: ibv.GID(b[12:28]),
		epoch: binary.BigEndian.Uint64(b[28:]), maxMessage: binary.BigEndian.Uint32(b[36:])}
	queues, offers := int(binary.BigEndian.Uint16(b[40:])), int(binary.BigEndian.Uint16(b[42:]))
	if err := h.check(b[9], queues, offers); err != nil {
		return nil, err
	}
	rest := b[helloHead:]
	if len(rest) != queues*helloQueue+offers*helloRegion {
		return nil, fmt.Errorf("%w: a greeting of %d bytes for %d queue pairs and %d regions", ErrProtocol, len(b), queues, offers)
	}
	for ; queues > 0; queues-- {
		q := address{binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])}
		if q.number == 0 || q.number >= 1<<24 || q.sequence >= 1<<24 {
			return nil, fmt.Errorf("%w: queue pair %#x, sequence %#x", ErrProtocol, q.number, q.sequence)
		}
		h.queues = append(h.queues, q)
		rest = rest[helloQueue:]
	}
	for ; offers > 0; offers-- {
		r, err := ParseRemoteRegion(rest[:helloRegion])
		if err != nil {
			return nil, err
		}
		h.offers = append(h.offers, r)
		rest = rest[helloRegion:]
	}
	return h, nil
}

func (h *hello) check(reserved byte, queues, offers int) error {
	switch {
	case reserved != 0:
	case h.linkLayer != ibv.LinkInfiniBand && h.linkLayer != ibv.LinkEthernet:
	case h.mtu < ibv.MTU256 || h.mtu > ibv.MTU4096:
	case h.reads == 0 || h.reads > maxReads:
	case h.epoch == 0 || h.maxMessage == 0:
	case h.linkLayer == ibv.LinkEthernet && h.gid == (ibv.GID{}):
	case h.linkLayer == ibv.LinkInfiniBand && h.gid == (ibv.GID{}) && h.lid == 0:
	case queues < 1 || queues > maxQueues || offers > maxOffers:
	default:
		return nil
	}
	return fmt.Errorf("%w: a greeting with impossible numbers", ErrProtocol)
}

func writeFrame(w io.Writer, kind byte, body []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 5+len(body)), uint32(1+len(body)))
	_, err := w.Write(append(append(b, kind), body...))
	return err
}

func readFrame(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes", ErrProtocol, n)
	}
	body = make([]byte, n-1)
	_, err = io.ReadFull(r, body)
	return head[4], body, err
}

// readKind reads a message that must be of that kind.
func readKind(r io.Reader, want byte) ([]byte, error) {
	kind, body, err := readFrame(r)
	switch {
	case err != nil:
		return nil, err
	case kind == frameRefuse:
		return nil, refusal(body)
	case kind != want:
		return nil, fmt.Errorf("%w: message %d instead of %d", ErrProtocol, kind, want)
	}
	return body, nil
}

// refuse tells the other end why there will be no connection.
func refuse(w io.Writer, cause error) error {
	text := cause.Error()
	body := []byte{0}
	if Retryable(cause) {
		body[0] = 1
	}
	return writeFrame(w, frameRefuse, append(body, text[:min(len(text), maxRefusal)]...))
}

// refusal is the error of the end that was refused.
func refusal(body []byte) error {
	if len(body) == 0 {
		return ErrRefused
	}
	text := body[1:min(len(body), 1+maxRefusal)]
	if body[0] == 1 {
		return fmt.Errorf("%w: refused this time: %q", ErrPeerLost, text)
	}
	return fmt.Errorf("%w: %q", ErrRefused, text)
}
