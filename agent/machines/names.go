package machines

import (
	"fmt"
	"strings"

	"github.com/nationtech/fleet/contracts"
)

// What names in libvirt may have at most, and what of it is the deployment's part. What
// would be longer has a hash in it instead.
const (
	maxName   = 63
	maxPrefix = 32
)

// Prefix begins the names of all that a deployment has in libvirt. The parts of names
// have no underscore, so no other deployment's begins with it.
func Prefix(d contracts.DeviceID, n contracts.DeploymentName) string {
	if prefix := fmt.Sprintf("fleet_%s_%s_", d, n); len(prefix) <= maxPrefix {
		return prefix
	}
	first := string(d)
	return fmt.Sprintf("fleet_%s_%s_", first[:min(len(first), 13)], hash("prefix", d, n)[:10])
}

// name is that of what a deployment has once: a machine, a network, a volume for data.
func name(prefix, part, suffix string) string {
	if whole := prefix + part + suffix; len(whole) <= maxName {
		return whole
	}
	return prefix + hash("name", part)[:10] + suffix
}

// partName is that of a volume which goes with a machine. It has two parts more than other
// names.
func partName(prefix, machine, part, suffix string) string {
	if whole := prefix + machine + "_" + part + "_" + suffix; len(whole) <= maxName {
		return whole
	}
	return prefix + hash("part", machine, part)[:10] + "_of_" + suffix
}

// OfMachine reports whether the volume goes with a machine, as its disks and its seed do.
// Volumes for data outlive both machine and deployment.
func OfMachine(volume string) bool { return strings.Count(volume, "_") == 5 }
