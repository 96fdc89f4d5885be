//go:build !linux

package rdma

func memlockLimit() uint64 { return 0 }
