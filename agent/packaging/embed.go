// Package packaging holds what installs the agent on a device.
package packaging

import "embed"

// Files are the installer, its scripts and the units that it installs, for whoever brings
// them to a device together with the agent.
//
//go:embed install.sh setup.sh *.service *.socket
var Files embed.FS
