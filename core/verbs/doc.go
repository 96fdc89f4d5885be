// Package verbs makes a network card a device of core/registry: what a registry registers with it, package rdma moves.
//
// List says which cards there are, and why none can be used. Open opens one; nothing of libibverbs is loaded before the first
// of either. MOORAGE_LIBIBVERBS names another library than the one that the dynamic loader finds.
//
// A Device is safe for concurrent use. Close it when the registry has forgotten it; what it registered ends with it.
package verbs
