//go:build invariants

package index

const checked = true
