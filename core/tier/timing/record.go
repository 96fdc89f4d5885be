package timing

// Record is one operation on one object. Times are nanoseconds.
type Record struct {
	Sequence   uint64 // set by the recorder: 1, 2, …
	Kind       Kind
	Class      Class
	Path       Path
	Durability Durability
	Shared     bool   // it waited for a read of another operation
	Overlapped bool   // some of the verification ran while later chunks were in flight
	Depth      uint32 // chunks in flight right after the first submission
	Chunks     uint32
	Bytes      uint64

	Stamps
	Parts

	VerifyOverlapped int64 // inside device, beside the chunks in flight; part of nothing
	// From submission to completion of one chunk; of the chunks of this operation.
	ChunkMin, ChunkMax, ChunkSum int64
}

// Parts are what host is made of, each outside of T1..T2.
type Parts struct {
	Lookup     int64 // which object, and where
	QueueWait  int64 // for a turn: what was asked for before in a batch or a job, a ring
	BufferWait int64 // for memory to read into, and for what had to leave it
	Submit     int64 // making the requests, up to the first submission
	Complete   int64 // after the last completion: waking up, publishing
	Verify     int64 // checksums after the last completion
	Copy       int64 // bytes through a bounce slot, or from one place in memory to another
}

// Queued is the record of an operation whose turn comes now, and that waits for it since a time; 0: it did not wait.
func Queued(kind Kind, since int64) Record {
	now := Now()
	if since == 0 {
		since = now
	}
	return Record{Kind: kind, Stamps: Stamps{T0: since}, Parts: Parts{QueueWait: now - since}}
}

// Begun is when its turn came, as long as it has waited for nothing but that.
func (r *Record) Begun() int64 { return r.T0 + r.QueueWait }

// Follow gives the stamps of who waited for a read that another had begun. What came before its turn is no time of the device,
// whenever the other began.
func (r *Record) Follow(leader Stamps, t3 int64) {
	t0, begun := r.T0, r.Begun()
	r.Shared, r.Stamps = true, Follow(begun, leader, t3)
	r.T0, r.Lookup = t0, min(r.Lookup, r.T1-begun)
}

func (p *Parts) all() [7]int64 {
	return [...]int64{p.Lookup, p.QueueWait, p.BufferWait, p.Submit, p.Complete, p.Verify, p.Copy}
}

// of is what of host the parts leave; below 0 when they do not fit, or one of them is below 0.
func (p *Parts) of(host int64) (rest int64) {
	rest = host
	for _, v := range p.all() {
		if v < 0 || v > rest {
			return -1
		}
		rest -= v
	}
	return rest
}

// Other is what of host no part accounts for; below 0 when the parts do not fit into host.
func (r *Record) Other() int64 { return r.of(r.Host()) }

// ChunkMean is 0 without chunks.
func (r *Record) ChunkMean() float64 {
	if r.Chunks == 0 {
		return 0
	}
	return float64(r.ChunkSum) / float64(r.Chunks)
}

// Consistent says whether the figures can be true together: the stamps run forwards and the parts fit into host.
func (r *Record) Consistent() bool {
	return r.Ordered() && r.Total() >= 0 && r.Other() >= 0 && r.VerifyOverlapped >= 0 &&
		r.Kind < kinds && r.Class < classes && r.Path < paths && r.Durability < durabilities
}

// Measure is a figure of a record that distributions are kept of.
type Measure uint8

// The measures: the three times, what host is made of, and verification beside device.
const (
	Total Measure = iota
	Device
	Host
	Lookup
	QueueWait
	BufferWait
	Submit
	Complete
	Verify
	Copy
	Other
	VerifyOverlapped
	Measures // how many there are
)

var measureNames = [Measures]string{
	"total", "device", "host",
	"lookup", "queue_wait", "buffer_wait", "submit", "complete", "verify", "copy", "other", "verify_overlapped",
}

func (m Measure) String() string { return name(measureNames[:], uint8(m)) }

func (r *Record) measures() [Measures]int64 {
	v := [Measures]int64{r.Total(), r.Device(), r.Host()}
	parts := r.all()
	copy(v[Lookup:], parts[:])
	v[Other], v[VerifyOverlapped] = r.Other(), r.VerifyOverlapped
	return v
}
