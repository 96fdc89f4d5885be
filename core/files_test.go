package core

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/safetensors"
	"moorage/core/tensor"
)

// fileOf writes a file of uint8 tensors, each filled with its number, all of n bytes.
func fileOf(t testing.TB, n int, names ...string) string {
	t.Helper()
	var all []safetensors.Tensor
	for _, name := range names {
		all = append(all, safetensors.Tensor{Name: name, DType: bytesDType, Shape: []int64{int64(n)}})
	}
	out, err := safetensors.Arrange(all)
	require.NoError(t, err)
	for i := range names {
		out = append(out, bytes.Repeat([]byte{byte(i + 1)}, n)...)
	}
	path := filepath.Join(t.TempDir(), "file.safetensors")
	require.NoError(t, os.WriteFile(path, out, 0o644))
	return path
}

func TestExportAndImportAgree(t *testing.T) {
	s := open(t, Options{})
	r := seeded(t)
	want := map[string][]byte{}
	var keys [][]byte
	for i, c := range []struct {
		dtype string
		shape []int64
	}{
		{"float32", []int64{1000, 3}}, {"uint8", nil}, {"bfloat16", []int64{}}, {"float64", []int64{0, 4}},
		{"complex64", []int64{5}}, {"float4_e2m1fn_x2", []int64{3, 4}}, {"bool", []int64{filePiece + 5}},
	} {
		dt := dtype(t, c.dtype)
		n, err := tensor.Bytes(dt, c.shape)
		require.NoError(t, err)
		data := make([]byte, n)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		key := fmt.Sprintf("model/%d", i)
		if c.shape == nil {
			data = []byte("plain bytes")
			put(t, s, key, data)
		} else {
			src := tensor.Source{DType: dt, Shape: c.shape}
			if n > 0 {
				src.Base = addressOf(data)
			}
			_, err = s.PutTensor([]byte(key), src, PutOptions{})
			require.NoError(t, err)
		}
		want[key] = data
		keys = append(keys, []byte(key))
	}
	path := filepath.Join(t.TempDir(), "out")
	before := stats(t, s)
	require.NoError(t, s.Export(path, keys, len("model/"), FileOptions{}))
	after := stats(t, s)
	require.Zero(t, after.BorrowedObjects)
	require.NotZero(t, after.CopiedOut-before.CopiedOut)
	n, err := s.Import(path, []byte("back/"), FileOptions{})
	require.NoError(t, err)
	require.Equal(t, len(keys), n)
	for i := range keys {
		a, b := get(t, s, string(keys[i])), get(t, s, fmt.Sprintf("back/%d", i))
		require.True(t, bytes.Equal(want[string(keys[i])], b.Bytes()))
		if a.IsTensor() {
			require.Equal(t, a.DType(), b.DType())
			require.Equal(t, a.Shape(), b.Shape())
		} else {
			require.Equal(t, bytesDType, b.DType())
		}
		a.Release()
		b.Release()
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, info.Mode().Perm())
	_, err = s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

func TestImportIfExists(t *testing.T) {
	path := fileOf(t, 100, "a", "b", "c")
	s := open(t, Options{})
	put(t, s, "b", []byte("mine"))
	_, err := s.Import(path, nil, FileOptions{IfExists: Raise})
	require.ErrorIs(t, err, ErrExists)
	st := stats(t, s)
	require.EqualValues(t, 1, st.Objects)
	require.EqualValues(t, 64, st.Used)
	n, err := s.Import(path, nil, FileOptions{IfExists: Keep})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.EqualValues(t, 204, stats(t, s).CopiedIn, "what is kept is not read")
	for key, b := range map[string]byte{"a": 1, "b": 'm', "c": 3} {
		v := get(t, s, key)
		require.Equal(t, b, v.Bytes()[0])
		v.Release()
	}
	n, err = s.Import(path, nil, FileOptions{})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	v := get(t, s, "b")
	require.Equal(t, bytes.Repeat([]byte{2}, 100), v.Bytes())
	v.Release()
	require.EqualValues(t, 3, stats(t, s).Objects)
}

// A key that somebody takes while the file is read, under Raise: the names that were published go again.
func TestImportIsUndone(t *testing.T) {
	path := fileOf(t, 100, "a", "b", "c")
	s := open(t, Options{})
	_, err := s.Import(path, nil, FileOptions{IfExists: Raise, Progress: func(done, total uint64) bool {
		_, err := s.Put([]byte("b"), []byte("mine"), PutOptions{})
		return err == nil
	}})
	require.ErrorIs(t, err, ErrExists)
	v := get(t, s, "b")
	require.Equal(t, "mine", string(v.Bytes()))
	v.Release()
	require.EqualValues(t, 1, stats(t, s).Objects)
	require.NoError(t, s.Remove([]byte("b")))
	requireEmpty(t, s)
}

func TestImportThatFailsLeavesNothing(t *testing.T) {
	good := fileOf(t, 4096, "a", "b")
	whole, err := os.ReadFile(good)
	require.NoError(t, err)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o644))
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	huge := bytes.Clone(whole)
	binary.LittleEndian.PutUint64(huge, 1<<40)
	for name, c := range map[string]struct {
		path string
		kind error
		o    FileOptions
	}{
		"missing":            {filepath.Join(dir, "none"), safetensors.ErrIO, FileOptions{}},
		"directory":          {dir, safetensors.ErrIO, FileOptions{}},
		"pipe":               {pipe, safetensors.ErrIO, FileOptions{}},
		"device":             {"/dev/zero", safetensors.ErrIO, FileOptions{}},
		"empty":              {file("empty", nil), safetensors.ErrFormat, FileOptions{}},
		"cut in the field":   {file("field", whole[:5]), safetensors.ErrFormat, FileOptions{}},
		"cut in the header":  {file("header", whole[:50]), safetensors.ErrFormat, FileOptions{}},
		"cut in the data":    {file("data", whole[:len(whole)-1]), safetensors.ErrFormat, FileOptions{}},
		"more data":          {file("more", append(bytes.Clone(whole), 0)), safetensors.ErrFormat, FileOptions{}},
		"huge header":        {file("huge", huge), safetensors.ErrFormat, FileOptions{}},
		"stopped":            {sparseFile(t, 16*filePiece), ErrCancelled, FileOptions{Progress: func(done, total uint64) bool { return false }}},
		"stopped at the end": {good, ErrCancelled, FileOptions{Progress: func(done, total uint64) bool { return done < total }}},
		"unknown dtype":      {file("dtype", bytes.Replace(whole, []byte(`"U8"`), []byte(`"Q8"`), 1)), ErrUnsupported, FileOptions{}},
		"too large":          {fileOf(t, 600<<10, "a", "b"), ErrCapacity, FileOptions{}},
		"key too long":       {fileOf(t, 1, "a", string(bytes.Repeat([]byte("n"), 4097))), ErrInvalid, FileOptions{}},
		"no key":             {fileOf(t, 1, "a", ""), ErrInvalid, FileOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Capacity: 1 << 20}
			if name == "stopped" {
				o.Capacity = 256 << 20
			}
			s := open(t, o)
			_, err := s.Import(c.path, nil, c.o)
			require.ErrorIs(t, err, c.kind)
			requireEmpty(t, s)
		})
	}
}

// sparseFile is a file of one tensor of n zeroes.
func sparseFile(t testing.TB, n int64) string {
	t.Helper()
	header, err := safetensors.Arrange([]safetensors.Tensor{{Name: "a", DType: bytesDType, Shape: []int64{n}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sparse")
	require.NoError(t, os.WriteFile(path, header, 0o644))
	require.NoError(t, os.Truncate(path, int64(len(header))+n))
	return path
}

func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestFileThatShrinksWhileItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o644))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	s := open(t, Options{})
	w, err := s.Reserve(100)
	require.NoError(t, err)
	defer w.Abort()
	x := &transfer{closing: new(atomic.Uint32)}
	x.add(w.Addr(), 50, 51) // what the header said when the file was longer
	err = x.run(func(p piece) error { return readAt(f, p) })
	require.ErrorIs(t, err, safetensors.ErrIO)
	require.ErrorContains(t, err, "shorter")
}

func TestCloseCancelsAnImport(t *testing.T) {
	path := fileOf(t, 1000, names(3000)...)
	s := open(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var once bool
	_, err := s.Import(path, nil, FileOptions{Progress: func(done, total uint64) bool {
		if !once {
			once = true
			go func() { _ = s.Close(true); cancel() }()
			for s.control.Closing.Load() == 0 {
				time.Sleep(10 * time.Microsecond)
			}
		}
		return true
	}})
	require.ErrorIs(t, err, ErrCancelled)
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled, "close has to return")
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
}

func TestExportThatFailsLeavesNoFile(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", make([]byte, 100))
	put(t, s, "x/a", make([]byte, 100))
	put(t, s, "y/a", make([]byte, 100))
	put(t, s, safetensorsMetadata, nil)
	put(t, s, "\xff", nil)
	_, err := s.PutTensor([]byte("x/b"), tensor.Source{DType: dtype(t, "complex128"), Shape: []int64{0}}, PutOptions{})
	require.NoError(t, err)
	_, err = s.PutTensor([]byte("z/a"), tensor.Source{DType: dtype(t, "int64"), Shape: []int64{0}}, PutOptions{})
	require.NoError(t, err)
	stop := FileOptions{Progress: func(done, total uint64) bool { return false }}
	for name, c := range map[string]struct {
		keys []string
		cut  int
		kind error
		o    FileOptions
	}{
		"missing key":             {[]string{"a", "none"}, 0, ErrNotFound, FileOptions{}},
		"cut too long":            {[]string{"a"}, 2, ErrInvalid, FileOptions{}},
		"key twice":               {[]string{"a", "a"}, 0, ErrInvalid, FileOptions{}},
		"name twice":              {[]string{"x/a", "y/a"}, 2, ErrInvalid, FileOptions{}},
		"name twice, other width": {[]string{"x/a", "y/a", "z/a"}, 2, ErrInvalid, FileOptions{}},
		"metadata":                {[]string{safetensorsMetadata}, 0, ErrInvalid, FileOptions{}},
		"not UTF-8":               {[]string{"\xff"}, 0, ErrInvalid, FileOptions{}},
		"dtype":                   {[]string{"x/b"}, 0, ErrUnsupported, FileOptions{}},
		"stopped":                 {[]string{"big"}, 0, ErrCancelled, stop},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
			if name == "stopped" {
				put(t, s, "big", make([]byte, 40<<20))
			}
			var keys [][]byte
			for _, k := range c.keys {
				keys = append(keys, []byte(k))
			}
			require.ErrorIs(t, s.Export(path, keys, c.cut, c.o), c.kind)
			old, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "old", string(old), "the file that was there is untouched")
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1, "a temporary file was left")
			require.Zero(t, stats(t, s).BorrowedObjects)
		})
	}
	require.ErrorIs(t, s.Export(filepath.Join(t.TempDir(), "no", "dir"), [][]byte{[]byte("a")}, 0, FileOptions{}), safetensors.ErrIO)
	require.ErrorIs(t, s.Export(t.TempDir(), [][]byte{[]byte("a")}, 0, FileOptions{}), safetensors.ErrIO)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	require.ErrorIs(t, s.Export(pipe, [][]byte{[]byte("a")}, 0, FileOptions{}), safetensors.ErrIO)
	info, err := os.Lstat(pipe)
	require.NoError(t, err)
	require.Equal(t, os.ModeNamedPipe, info.Mode().Type(), "what is no file is not replaced by one")
}

const safetensorsMetadata = "__metadata__"

// An export that runs while the store closes ends well: its views keep the bytes.
func TestExportOutlivesTheStore(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", bytes.Repeat([]byte{7}, 20<<20))
	path := filepath.Join(t.TempDir(), "out")
	once := false
	require.NoError(t, s.Export(path, [][]byte{[]byte("a")}, 0, FileOptions{Progress: func(done, total uint64) bool {
		if !once {
			once = true
			require.NoError(t, s.Close(true))
		}
		return true
	}}))
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(file, bytes.Repeat([]byte{7}, 20<<20)))
}
