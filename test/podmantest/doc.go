// Package podmantest runs a podman of its own beside the machine's: own storage,
// own run directory, own network with its own bridge and subnet, reached through
// a socket as an agent reaches the real one. Several run at the same time on one
// machine without seeing each other.
//
// It is not tied to package testing, so that the demo uses the same. What it
// starts, it removes: containers, pods, networks, mounts, conmon processes,
// files. What a killed process left behind is removed by the next Start.
//
// It needs root and the Debian packages that RequiredPackages names.
package podmantest
