// Package guest makes what virtual machines boot in demo and tests: a tiny guest of
// Debian's kernel and one Go program, which is up within seconds also under emulation,
// and a whole Debian with cloud-init and podman, which becomes a device of a fleet.
//
// Both are made on this machine from Debian packages, once, and kept in the cache folder
// that `make help` names.
package guest
