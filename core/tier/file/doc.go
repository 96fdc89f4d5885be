// Package file is what the disk tier asks of a file system: one directory that it owns, and the files in it.
//
// The real one is [Open]'s. Tests put package faulty in its place, which forgets what was not synced and fails where it is
// told to; everything the tier keeps goes through these two interfaces, so there is no byte that such a test cannot reach.
//
// A [File] with a descriptor may also be read and written by others than its methods (io_uring does); one without is only
// reached through ReadAt and WriteAt.
//
// # Concurrency
//
// All methods may be called at any time by anybody, except that nothing may be under way on what is being closed.
package file
