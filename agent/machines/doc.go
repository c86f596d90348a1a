// Package machines decides what a device has to do for virtual machines, as package
// reconcile does for pods: it compares what a score asks for with what libvirt has, and
// says which steps lead from one to the other, what to wait for, and how to report it.
// It does nothing itself and reads no clock.
//
// What a machine was made from is written into libvirt with it, part by part. A machine
// that was made from what is wanted is never restarted, whoever asks: neither by a new
// revision that leaves it alone nor by a restart of the agent. Processors and memory are
// changed while it runs where they can be; every other difference takes an orderly
// shutdown and a start, and the parts say what for.
package machines
