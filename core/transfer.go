package core

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"moorage/core/safetensors"
	"moorage/core/tensor"
)

var bytesDType = tensor.DType{Code: 1, Bits: 8, Lanes: 1} // uint8

func readAt(f *os.File, p piece) error {
	if _, err := f.ReadAt(bytesAt(p.addr, p.size), int64(p.at)); err != nil {
		return ioError(err)
	}
	return nil
}

func writeAt(f *os.File, p piece) error {
	if _, err := f.WriteAt(bytesAt(p.addr, p.size), int64(p.at)); err != nil {
		return ioError(err)
	}
	return nil
}

// writeWhole writes a file beside path and gives it the name when everything is on disk. What is there and is no regular
// file stays: a device would be replaced by a file.
func writeWhole(path string, header []byte, t *transfer) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", safetensors.ErrIO, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return ioError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = ioError(e)
		}
	}()
	if _, err := f.WriteAt(header, 0); err != nil {
		return ioError(err)
	}
	if err := t.run(func(p piece) error { return writeAt(f, p) }); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return ioError(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return ioError(err)
	}
	return nil
}
