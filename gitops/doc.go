// Package gitops is what fleet knows about the Git repository that declares a
// fleet: how one is begun, what an overlay of it comes to at any revision, and
// whether the cluster would take that. It needs neither a cluster nor the network.
package gitops

//go:generate go run ./internal/schemagen -root ..
