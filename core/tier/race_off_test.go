//go:build !race

package tier

const slower = 1
