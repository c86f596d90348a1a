// Package env brings up a whole fleet on one machine: the real control plane, the
// operator, and devices with an agent and a podman of their own. Demo and
// end-to-end test share it, so that what is shown is what is tested.
package env
