// Package gitops is what fleet knows about the Git repository that declares a
// fleet: how one is begun, what an overlay of it comes to at any revision, whether
// the cluster would take that, and how it is changed by a commit. It needs no cluster,
// and the network to push alone.
package gitops

//go:generate go run ./internal/schemagen -root ..
