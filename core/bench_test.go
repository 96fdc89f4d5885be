package core

import (
	"fmt"
	"testing"
)

func BenchmarkGetRelease(b *testing.B) {
	s := open(b, Options{})
	keys := make([][]byte, 10000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "layer.%034d", i)
		put(b, s, string(keys[i]), make([]byte, 64))
	}
	once := func(i int) {
		v, err := s.Get(keys[i*7919%len(keys)])
		if err != nil {
			b.Fatal(err)
		}
		v.Release()
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			once(i)
		}
	})
	b.Run("all", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				once(i)
			}
		})
	})
}
