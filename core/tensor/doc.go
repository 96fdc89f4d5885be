// Package tensor knows what a tensor is made of: element types, shapes,
// strides, sizes, and how to lay a strided tensor out densely in one pass.
//
// Everything that enters here may come from a foreign program: a dtype triple,
// 64 dimensions, strides and an address. The rule is that a descriptor is
// either refused with an error that names the part at fault, or is sound: its
// size and the bytes that it touches are known, and no arithmetic on them can
// wrap. [NewPlan] is where that is decided; a [Plan] that exists is sound.
//
// # Memory
//
// Tensor bytes are never Go memory. They are addressed by uintptr, and it is
// the caller who keeps source and destination mapped while a copy runs. The
// package keeps no address beyond the value of a Plan.
//
// # Lifetime and concurrency
//
// All types are plain values without hidden state. A Plan is not changed by
// gathering, so any number of goroutines may each gather a share of one Plan
// at the same time. The Shape and Strides of a [Source] are only read, and only
// until the call that was given them returns.
package tensor
