//go:build race

package tier

// slower is by how much the long tests are cut.
const slower = 5
