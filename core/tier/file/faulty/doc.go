// Package faulty is a directory in memory that forgets and fails as disks do, for the tests of the disk tier.
//
// It keeps what was synced apart from what was not. [Dir.Crash] gives the directory that a loss of power leaves: of the
// writes since the last sync of their file any number is missing, in any order, torn at 512 bytes; of the names that were
// created, renamed and removed since the last sync of the directory any number is as it was. [Dir.Kill] gives the one that the
// end of the process leaves: everything that was written. Both leave the old directory as it is, so that a test can have many
// crashes from one state.
//
// [Dir.Inject] makes calls fail, stop short, or deliver flipped bits: which ones, a [Rule] says.
package faulty
