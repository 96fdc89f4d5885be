//go:build race

package core

import "moorage/core/arena/cell"

// mapControl makes the page a Go value, so that the race detector knows what its atomics order.
func mapControl() (*cell.Control, error) { return new(cell.Control), nil }

func unmapControl(*cell.Control) error { return nil }
