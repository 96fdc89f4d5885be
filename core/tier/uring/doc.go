// Package uring is the part of Linux's io_uring that block I/O needs: reads and writes of files at offsets, with
// registered files and registered buffers, cancelling, and waiting with a timeout.
//
// A request is written into the submission queue (Read, WriteFixed, …), which makes no system call; Enter hands all that was
// written to the kernel and waits; Ready and Next take completions out. Nothing allocates, and no memory of the
// caller is looked at: buffers are addresses.
//
// # Lifetime and concurrency
//
// Memory and file of a request belong to the kernel until its completion was seen, whatever became of it. A Ring is used
// by one goroutine at a time, which has locked its thread from the first Enter until the last completion: the kernel
// finishes requests in the thread that submitted them, and gives them up when that thread ends. Between requests a
// ring may change hands. Registering (SetFile, SetBuffer, CloneBuffers) is safe at any time, from any goroutine, except
// beside Close.
package uring
