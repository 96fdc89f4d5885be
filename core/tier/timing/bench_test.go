package timing

import "testing"

func BenchmarkNow(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Now()
	}
}

func benchmarked() Record {
	return Record{
		Path: UringFixed, Bytes: 1 << 20, Chunks: 1, ChunkMax: 300_000, ChunkSum: 300_000,
		Stamps: Stamps{0, 5000, 305_000, 400_000}, Parts: Parts{Lookup: 300, Submit: 4000, Verify: 90_000},
	}
}

func BenchmarkAdd(b *testing.B) {
	c, r := NewRecorder(0, nil), benchmarked()
	b.ReportAllocs()
	for b.Loop() {
		c.Add(r)
	}
}

func BenchmarkAddHit(b *testing.B) {
	c := NewRecorder(0, nil)
	b.ReportAllocs()
	for b.Loop() {
		t0 := Now()
		c.Add(Record{Stamps: Hit(t0, Now())})
	}
}

func BenchmarkAddOnAllCores(b *testing.B) {
	c, r := NewRecorder(0, nil), benchmarked()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.Add(r)
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	c, r := NewRecorder(0, nil), benchmarked()
	for range 1000 {
		c.Add(r)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Snapshot()
	}
}
