package topology

import (
	"context"
	"strings"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/linux"
	"github.com/nationtech/fleet/provision/score"
)

// On makes of a Score for whatever runs commands one for a LinuxHost.
func On(s score.Score[command.Runner]) score.Score[*LinuxHost] { return onHost{s} }

type onHost struct{ score.Score[command.Runner] }

// Interpret interprets the Score on a host.
func (o onHost) Interpret(ctx context.Context, h *LinuxHost) (score.Outcome, error) {
	return o.Score.Interpret(ctx, h)
}

// group is the group whose members may use libvirt.
const group = "libvirt"

// Packages are those that a host needs for machines of these architectures.
func Packages(arches []libvirt.Arch) linux.Packages {
	p := linux.Packages{
		// dnsmasq hands out addresses and iptables leads out of a network; both are what
		// libvirt itself only recommends.
		"apt": {"libvirt-daemon-system", "libvirt-daemon-driver-qemu", "qemu-utils", "dnsmasq-base", "iptables"},
		"dnf": {"libvirt-daemon-kvm", "qemu-img", "dnsmasq"},
	}
	for _, arch := range arches {
		switch arch {
		case libvirt.AArch64:
			p["apt"] = append(p["apt"], "qemu-system-arm", "qemu-efi-aarch64")
			p["dnf"] = append(p["dnf"], "qemu-system-aarch64-core", "edk2-aarch64")
		default:
			p["apt"] = append(p["apt"], "qemu-system-x86")
			p["dnf"] = append(p["dnf"], "qemu-system-x86-core")
		}
	}
	return p
}

// units are libvirt's. They are sockets: the daemons behind them end when nobody needs
// them, and a look at those would find something to do each time.
func units(m linux.Manager) linux.Units {
	if m.Name() == "dnf" {
		// A daemon for each thing, where the distributions with dnf have gone.
		return linux.Units{"virtlogd.socket", "virtqemud.socket", "virtnetworkd.socket", "virtstoraged.socket"}
	}
	return linux.Units{"virtlogd.socket", "libvirtd.socket"}
}

// daemons are libvirt's for a host without systemd.
var daemons = linux.Daemons{
	{Args: []string{"virtlogd", "-d"}, PIDFile: "/run/virtlogd.pid"},
	{Args: []string{"libvirtd", "-d"}, PIDFile: "/run/libvirtd.pid"},
}

// arch is the architecture of the host.
func (h *LinuxHost) arch(ctx context.Context) (libvirt.Arch, error) {
	result, err := h.Run(ctx, command.New("uname", "-m"))
	if err != nil {
		return "", err
	}
	return libvirt.ParseArch(strings.TrimSpace(result.Stdout))
}
