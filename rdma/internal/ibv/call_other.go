//go:build !linux || !(amd64 || arm64)

package ibv

import "errors"

// Supported says whether this platform can have RDMA at all.
const Supported = false

var errPlatform = errors.New("RDMA is supported on Linux on amd64 and arm64")

func openLibrary(string) (uintptr, error) { return 0, errPlatform }
func symbol(uintptr, string) uintptr      { return 0 }

// Call is never reached here: there is no library to take a function from.
func Call(uintptr, ...uintptr) uintptr { return 0 }

func callErrno(func(uintptr) bool, uintptr, ...uintptr) (uintptr, error) { return 0, errPlatform }

// PollableFD is never reached here.
func PollableFD(int) (int, error) { return -1, errPlatform }

// Readable is never reached here.
func Readable(uintptr) bool { return false }

// Memory is never reached here.
func Memory(int) ([]byte, error) { return nil, errPlatform }

// FreeMemory is never reached here.
func FreeMemory([]byte) error { return errPlatform }
