package config

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nationtech/fleet/agent/policy"
)

// allowFields are the settings of what pods may reach of the device.
func allowFields(a *policy.Podman) fields {
	return fields{
		"hostPaths":    list(func(paths []string) error { a.HostPaths = paths; return hostPaths(paths) }),
		"privileged":   flag(func(is bool) { a.Privileged = is }),
		"hostNetwork":  flag(func(is bool) { a.HostNetwork = is }),
		"capabilities": list(func(names []string) (err error) { a.Capabilities, err = capabilities(names); return err }),
		"hostPorts":    list(func(ports []string) (err error) { a.HostPorts, err = hostPorts(ports); return err }),
	}
}

// hostPaths accepts paths none of which is below another: who may write to the upper
// one could put a link in the lower one's place.
func hostPaths(paths []string) error {
	for _, p := range paths {
		switch {
		case !path.IsAbs(p):
			return fmt.Errorf("%q must be an absolute path", p)
		case path.Clean(p) != p:
			return fmt.Errorf("%q must be written as %s", p, path.Clean(p))
		case strings.ContainsAny(p, ":,*\x00"):
			return fmt.Errorf("%q can't be mounted: it contains a colon, a comma or an asterisk", p)
		}
		for _, upper := range paths {
			if p != upper && strings.HasPrefix(p, strings.TrimSuffix(upper, "/")+"/") {
				return fmt.Errorf("%q is below %q, where a container could put a link in its place; keep one of them", p, upper)
			}
		}
	}
	return nil
}

func capabilities(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		c := policy.Capability(name)
		if !slices.Contains(known, c) {
			return nil, fmt.Errorf("%q is not a capability, want ALL or names such as NET_ADMIN; capabilities(7) has them", name)
		}
		all = append(all, c)
	}
	return all, nil
}

// known are the capabilities of capabilities(7), and podman's word for all of them.
var known = strings.Fields(`ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE
	MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP
	SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT
	SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)

func hostPorts(ports []string) ([]policy.Ports, error) {
	var all []policy.Ports
	for _, text := range ports {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from == 0 || to < from {
			return nil, fmt.Errorf("%q is neither a port nor a range of them, want 443 or 8000-8999", text)
		}
		all = append(all, policy.Ports{First: int32(from), Last: int32(to)})
	}
	return all, nil
}
