// Package shim posts and polls: what a transfer does for each work request. With cgo, a chain is built on C's stack and handed
// over in one call, and a completion queue is polled for a while in one call; without cgo the same goes through purego, at
// several times the price. A test runs both.
//
// The only work request that this package can make is a read. No Moorage process writes into another's memory.
package shim
