// Package cost decides how bytes get to or from memory that no device has registered: copied through a bounce buffer, or by
// registering it for the one transfer. What is registered is used as it is.
//
// A Model is a value, and its decisions depend on nothing but its fields and what is asked: Calibrate measures a device once and
// fills them. All figures are of touched memory with small pages; memory that nobody has touched costs its page faults on
// top, whichever way is taken.
package cost
