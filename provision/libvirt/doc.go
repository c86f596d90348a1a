// Package libvirt speaks to libvirtd: machines, their disks and networks.
//
// It does so over libvirt's own protocol and without cgo, so that the agent stays one
// static binary; docs/adr/0009-libvirt-without-cgo.md says what that costs. What it
// writes into libvirt it marks with an Owner, and what is not marked it does not touch:
// a host's other machines and networks are none of its business.
//
// Calls that bring about a state succeed when it is already there (starting a machine
// that runs, deleting a volume that is gone), so that a caller who was interrupted can
// begin anew.
package libvirt
