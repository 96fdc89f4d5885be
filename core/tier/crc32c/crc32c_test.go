package crc32c

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// The polynomial of RFC 3720, with its highest term.
const polynomial = 0x11edc6f41

func TestKnownChecksums(t *testing.T) {
	ascending, descending := make([]byte, 32), make([]byte, 32)
	ones := make([]byte, 32)
	for i := range ascending {
		ascending[i], descending[i], ones[i] = byte(i), byte(31-i), 0xff
	}
	for _, c := range []struct {
		b    []byte
		want uint32
	}{ // RFC 3720, B.4, and the usual check value
		{make([]byte, 32), 0x8a9136aa}, {ones, 0x62a8ab43}, {ascending, 0x46dd794e}, {descending, 0x113fdb5c},
		{[]byte("123456789"), 0xe3069283}, {nil, 0},
	} {
		if got := Checksum(c.b); got != c.want {
			t.Errorf("%x: %#x, not %#x", c.b, got, c.want)
		}
	}
}

func TestAnyLengthFromAnyPlace(t *testing.T) {
	t.Logf("folding: %v", hasFold)
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 1<<16)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	try := func(from, to int, crc uint32) {
		t.Helper()
		if got, want := Update(crc, b[from:to]), crc32.Update(crc, table, b[from:to]); got != want {
			t.Fatalf("[%d:%d] from %#x: %#x, not %#x", from, to, crc, got, want)
		}
	}
	for n := range 2000 {
		try(n%67, n%67+n, random.Uint32())
	}
	for range 2000 {
		from := random.IntN(len(b))
		try(from, from+random.IntN(len(b)-from+1), random.Uint32())
	}
}

// times x modulo the polynomial, n times.
func power(n int) (r uint64) {
	r = 1
	for range n {
		if r <<= 1; r>>32 != 0 {
			r ^= polynomial
		}
	}
	return r
}

func TestFactorsAreThoseOfThePolynomial(t *testing.T) {
	want := func(n int) (r uint64) {
		for p := power(n); p != 0; p &= p - 1 {
			for i := range 32 {
				if p&-p == 1<<i {
					r |= 1 << (31 - i)
				}
			}
		}
		return r << 1
	}
	for bytes, factors := range map[int][2]uint64{ // as in fold_amd64.s
		256: {0x0dcb17aa4, 0x0b9e02b86}, 64: {0x0740eef02, 0x09e4addf8}, 16: {0x0f20c0dfe, 0x14cd00bd6},
	} {
		if got := [2]uint64{want(8*bytes + 32), want(8*bytes - 32)}; got != factors {
			t.Errorf("%d bytes: %#x, not %#x", bytes, got, factors)
		}
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint32(0), make([]byte, 300), 7)
	f.Add(^uint32(0), make([]byte, 1000), 256)
	f.Fuzz(func(t *testing.T, crc uint32, b []byte, cut int) {
		want := crc32.Update(crc, table, b)
		if got := Update(crc, b); got != want {
			t.Fatalf("%#x, not %#x", got, want)
		}
		cut = max(0, min(cut, len(b)))
		if got := Update(Update(crc, b[:cut]), b[cut:]); got != want {
			t.Fatalf("cut at %d: %#x, not %#x", cut, got, want)
		}
	})
}

// From the cache and from memory; what the standard library does with the same, and a copy, beside it.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{4 << 10, 256 << 10, 64 << 20} {
		data, to := make([]byte, n), make([]byte, n)
		for i := range data {
			data[i] = byte(i)
		}
		for _, way := range []struct {
			name string
			f    func()
		}{
			{"ours", func() { Update(0, data) }},
			{"standard library", func() { crc32.Update(0, table, data) }},
			{"copy", func() { copy(to, data) }},
		} {
			b.Run(fmt.Sprintf("%d KiB, %s", n>>10, way.name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for range b.N {
					way.f()
				}
			})
		}
	}
}
