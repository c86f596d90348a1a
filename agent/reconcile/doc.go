// Package reconcile decides what a device has to do: it compares the pod that a
// score asks for with what the runtime has, and says which steps lead from one to
// the other, what to wait for, and how to report it. It does nothing itself and
// reads no clock, so that every decision can be tested as a table.
//
// A container's hash covers all that it was made from. A container whose hash is
// the wanted one is never touched, whoever asks: neither by a new revision that
// leaves it alone nor by a restart of the agent. The pod has a hash of its own
// over what its containers share (network, ports, init containers); when that
// changes the whole pod is replaced.
package reconcile
