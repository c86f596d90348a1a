package libvirt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

func TestAMachineIsDefinedStartedChangedAndRemoved(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx := d.Dial(t), within(t)
	heard := events(t, c)

	refused(t, c.Start(ctx, "web"), libvirt.ErrNotFound, "web")
	m := bare("web")
	must(t, c.Define(ctx, m))
	hear(t, heard, "web", libvirt.EventDefined, "")
	is, err := c.Machine(ctx, "web")
	must(t, err)
	if is.State != libvirt.StateShutOff || is.Owner != m.Owner || is.Next != m.Owner || !is.Persistent || is.Active() ||
		is.CPUs != 1 || is.MaxCPUs != 2 || is.MemoryBytes != 64<<20 || is.MaxMemoryBytes != 128<<20 || is.Autostart {
		t.Errorf("it is %+v", is)
	}
	uuid := is.UUID

	must(t, c.Start(ctx, "web"))
	hear(t, heard, "web", libvirt.EventStarted, "")
	must(t, c.Start(ctx, "web"))
	if is, err = c.Machine(ctx, "web"); err != nil || is.State != libvirt.StateRunning || is.Reason != "booted" || !is.Active() {
		t.Errorf("it is %+v, %v", is, err)
	}
	if _, err := os.Stat(d.HostPath(c.ConsoleLog("web"))); err != nil {
		t.Errorf("its console is not written down: %v", err)
	}

	m.Owner.Hash = "h2"
	must(t, c.Define(ctx, m))
	if is, err = c.Machine(ctx, "web"); err != nil || is.Owner.Hash != "h1" || is.Next.Hash != "h2" || is.UUID != uuid {
		t.Errorf("defined anew while it runs, it is %+v, %v", is, err)
	}
	must(t, c.SetOwner(ctx, "web", m.Owner))
	must(t, c.SetMemory(ctx, "web", 96<<20))
	must(t, c.SetCPUs(ctx, "web", 2))
	must(t, c.SetAutostart(ctx, "web", true))
	if is, err = c.Machine(ctx, "web"); err != nil || is.Owner.Hash != "h2" || is.CPUs != 2 || !is.Autostart {
		t.Errorf("changed while it runs, it is %+v, %v", is, err)
	}
	refused(t, c.SetMemory(ctx, "web", 256<<20), libvirt.ErrNeedsRestart, "maximum")
	refused(t, c.SetCPUs(ctx, "web", 3), libvirt.ErrNeedsRestart, "maximum")
	refused(t, c.SetCPUs(ctx, "web", 1), libvirt.ErrNeedsRestart, "give up")
	stranger := owner("other")
	refused(t, c.SetOwner(ctx, "web", stranger), libvirt.ErrNotOurs)

	// What a person does by hand is heard.
	hand := d.Stranger(t)
	domain, err := hand.DomainLookupByName("web")
	must(t, err)
	must(t, hand.DomainSuspend(domain))
	hear(t, heard, "web", libvirt.EventSuspended, "")
	if is, err = c.Machine(ctx, "web"); err != nil || is.State != libvirt.StatePaused || is.Reason != "paused by a person" {
		t.Errorf("paused, it is %+v, %v", is, err)
	}
	must(t, c.Start(ctx, "web"))
	hear(t, heard, "web", libvirt.EventResumed, "")
	must(t, hand.DomainDestroy(domain))
	hear(t, heard, "web", libvirt.EventStopped, "destroyed")
	if is, err = c.Machine(ctx, "web"); err != nil || is.State != libvirt.StateShutOff || is.Reason != "destroyed" {
		t.Errorf("destroyed, it is %+v, %v", is, err)
	}
	if is.CPUs != 2 || is.MemoryBytes != 96<<20 {
		t.Errorf("its definition has %d CPUs and %d bytes of memory", is.CPUs, is.MemoryBytes)
	}
	refused(t, c.Resume(ctx, "web"), nil, "shut off")
	must(t, c.Destroy(ctx, "web"))
	must(t, c.SetCPUs(ctx, "web", 1))

	must(t, c.Start(ctx, "web"))
	// Its firmware doesn't hear the power button.
	must(t, c.Shutdown(ctx, "web", 0))
	must(t, c.Shutdown(ctx, "web", 0))
	must(t, c.Undefine(ctx, "web"))
	hear(t, heard, "web", libvirt.EventUndefined, "")
	must(t, c.Undefine(ctx, "web"))
	if all, err := c.Machines(ctx); err != nil || len(all) != 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
}

func TestAMachineOfSomebodyElseIsLeftAsItIs(t *testing.T) {
	d := libvirttest.Start(t)
	c, ctx, hand := d.Dial(t), within(t), d.Stranger(t)
	text, err := bare("theirs").XML()
	must(t, err)
	foreign := string(text[:strings.Index(string(text), "<metadata>")]) + string(text[strings.Index(string(text), "</metadata>")+len("</metadata>"):])
	domain, err := hand.DomainDefineXML(foreign)
	must(t, err)
	must(t, hand.DomainCreate(domain))
	before := look(t, hand, domain)

	other := bare("theirs")
	other.CPUs = 2
	for what, err := range map[string]error{
		"define":        c.Define(ctx, other),
		"start":         c.Start(ctx, "theirs"),
		"resume":        c.Resume(ctx, "theirs"),
		"shutdown":      c.Shutdown(ctx, "theirs", 0),
		"destroy":       c.Destroy(ctx, "theirs"),
		"undefine":      c.Undefine(ctx, "theirs"),
		"set memory":    c.SetMemory(ctx, "theirs", 32<<20),
		"set CPUs":      c.SetCPUs(ctx, "theirs", 2),
		"set autostart": c.SetAutostart(ctx, "theirs", true),
		"set owner":     c.SetOwner(ctx, "theirs", owner("theirs")),
	} {
		if !errors.Is(err, libvirt.ErrNotOurs) || !strings.Contains(err.Error(), "theirs") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := look(t, hand, domain); after != before {
		t.Errorf("it was:\n%s\nit is:\n%s", before, after)
	}
	if is, err := c.Machine(ctx, "theirs"); err != nil || !is.Owner.Zero() || is.State != libvirt.StateRunning {
		t.Errorf("it is %+v, %v", is, err)
	}

	must(t, c.Define(ctx, bare("ours")))
	taken := bare("ours")
	taken.Owner = libvirt.Owner{Device: "edge-1", Deployment: "other", Name: "ours"}
	refused(t, c.Define(ctx, taken), libvirt.ErrNotOurs, "ours of deployment shop on device edge-1")
	taken.Owner = libvirt.Owner{}
	refused(t, c.Define(ctx, taken), nil, "needs an owner")
}

func look(t *testing.T, client *rpc.Libvirt, d rpc.Domain) string {
	t.Helper()
	text, err := client.DomainGetXMLDesc(d, 0)
	must(t, err)
	return text
}

// Whatever this host has an emulator for, libvirt takes the definition of.
func TestEachKindOfMachineIsOneThatLibvirtTakes(t *testing.T) {
	d, c := withPool(t)
	ctx := within(t)
	host, err := c.Host(ctx)
	must(t, err)
	if host.CPUs < 1 || host.MemoryBytes < 1<<20 || host.Arch != libvirt.HostArch() {
		t.Errorf("the host is %+v", host)
	}
	if version, err := c.Version(ctx); err != nil || strings.Count(version, ".") != 2 {
		t.Errorf("libvirt is of version %q, %v", version, err)
	}
	must(t, c.CreateVolume(ctx, pool, "disk", 1<<20))
	for _, kind := range []struct {
		arch   libvirt.Arch
		typ    string
		kernel bool
	}{
		{libvirt.X86_64, "q35", false}, {libvirt.X86_64, "pc", false}, {libvirt.X86_64, "q35", true},
		{libvirt.AArch64, "virt", false}, {libvirt.AArch64, "virt", true},
	} {
		name := string(kind.arch) + "-" + kind.typ
		if kind.kernel {
			name += "-kernel"
		}
		t.Run(name, func(t *testing.T) {
			guest, err := host.Guest(kind.arch)
			if err != nil {
				t.Skip(err)
			}
			typ, err := host.MachineType(kind.arch, kind.typ)
			must(t, err)
			m := bare(name)
			m.Arch, m.Type, m.GuestAgent = kind.arch, typ, true
			m.Disks = []libvirt.Disk{{Pool: pool, Volume: "disk", Target: "vda"}}
			m.Interfaces = []libvirt.Interface{{Network: "none-yet"}, {Bridge: "br0", MAC: libvirt.MACFor(name)}}
			if kind.kernel {
				m.Kernel, m.Initrd, m.Cmdline = "/nowhere/vmlinuz", "/nowhere/initrd", "quiet"
			}
			must(t, c.Define(ctx, m))
			must(t, c.Define(ctx, m))
			if guest.KVM {
				m.Emulated = false
				must(t, c.Define(ctx, m))
			}
			// As far as the firmware it boots, too.
			if kind.kernel {
				return
			}
			m.Emulated, m.Interfaces = true, nil
			must(t, c.Define(ctx, m))
			must(t, c.Start(ctx, name))
			if is, err := c.Machine(ctx, name); err != nil || is.State != libvirt.StateRunning {
				t.Errorf("started, it is %+v, %v", is, err)
			}
			if kind.arch == libvirt.AArch64 { // the others' firmware has nothing to say on a console
				eventually(t, "its firmware", func() error {
					said, err := os.ReadFile(d.HostPath(c.ConsoleLog(name)))
					if err == nil && !bytes.Contains(said, []byte("UEFI")) {
						err = fmt.Errorf("its console shows %q", said)
					}
					return err
				})
				// QEMU has no CPUs to plug in there.
				refused(t, c.SetCPUs(ctx, name, 2), libvirt.ErrNeedsRestart, name)
				if is, err := c.Machine(ctx, name); err != nil || is.CPUs != 1 {
					t.Errorf("it is %+v, %v", is, err)
				}
			}
			must(t, c.Destroy(ctx, name))
			must(t, c.Undefine(ctx, name))
		})
	}
}

func TestWhatLibvirtRefusesLeavesNoMachine(t *testing.T) {
	_, c := withPool(t)
	ctx := within(t)
	m := bare("web")
	m.Type = "q36"
	refused(t, c.Define(ctx, m), nil, "web", "q36")
	if all, err := c.Machines(ctx); err != nil || len(all) != 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
	m = bare("web")
	m.Disks = []libvirt.Disk{{Pool: pool, Volume: "missing", Target: "vda"}}
	must(t, c.Define(ctx, m))
	refused(t, c.Start(ctx, "web"), nil, "start machine web", "missing")
	if is, err := c.Machine(ctx, "web"); err != nil || is.State != libvirt.StateShutOff {
		t.Errorf("it is %+v, %v", is, err)
	}
}

// qemuRuns reports whether a machine's process is there, whatever libvirtd says.
func qemuRuns(t *testing.T, d *libvirttest.Daemon, name string) bool {
	t.Helper()
	pid, err := os.ReadFile(d.HostPath("/run/libvirt/qemu/" + name + ".pid"))
	if err != nil {
		return false
	}
	return exec.Command("kill", "-0", strings.TrimSpace(string(pid))).Run() == nil
}
