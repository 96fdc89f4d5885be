// Package tier keeps objects on disk.
package tier
