package host

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/score"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

type setupOptions struct {
	env       *cli.Env
	reach     cli.Reach
	arches    []string
	subnet    string
	noSystemd bool
	output    cli.Output
}

// Setup is what was done to a host.
type Setup struct {
	Host    string       `json:"host"`
	Changed bool         `json:"changed"`
	Steps   []score.Step `json:"steps"`
	// URI is what kubectl fleet vm reaches it by.
	URI string `json:"uri"`
}

func newSetupCommand(env *cli.Env) *cobra.Command {
	o := setupOptions{env: env}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make a host one on which machines run",
		Long: `Make a Linux host one on which machines run: install libvirt and QEMU (with apt or dnf),
have libvirt run now and after every boot, let the user use it, and make the storage pool
and the network of the machines. It says of each step whether it has changed anything; it
may be run again at any time, and changes nothing then.

On the host it needs root, or sudo without a password.`,
		Example: `  # This machine
  kubectl fleet host setup

  # Another one, for ARM machines too
  kubectl fleet host setup --connect ssh://ada@host7 --arch x86_64 --arch aarch64`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.reach.AddHostFlags(cmd, env)
	f := cmd.Flags()
	f.StringSliceVar(&o.arches, "arch", nil, "Architecture of the machines, x86_64 or aarch64; by default the host's own. May be given several times.")
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{string(libvirt.X86_64), string(libvirt.AArch64)}, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&o.subnet, "subnet", "", fmt.Sprintf("Addresses of the machines' network, where %s is taken. Changing those of a network cuts machines off until they are started again.", vm.DefaultSubnet))
	f.BoolVar(&o.noSystemd, "no-systemd", false, "On a host that systemd does not run, such as a container, start libvirt directly; it runs until the host ends.")
	o.output.AddFlags(cmd)
	return cmd
}

func (o *setupOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	network := vm.Network{Name: vm.DefaultNetwork}
	if o.subnet != "" {
		if network.Subnet, err = netip.ParsePrefix(o.subnet); err != nil || network.Subnet.Masked() != network.Subnet {
			return fmt.Errorf("--subnet %s: must be the addresses of a network, such as %s", o.subnet, vm.DefaultSubnet)
		}
	}
	var arches []libvirt.Arch
	for _, text := range o.arches {
		arch, err := libvirt.ParseArch(text)
		if err != nil {
			return fmt.Errorf("--arch: %w", err)
		}
		arches = append(arches, arch)
	}
	d, err := dirs.Find()
	if err != nil {
		return err
	}
	host, err := o.reach.Linux(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	setup := Setup{Host: host.Host(), Steps: []score.Step{}}
	report := func(s score.Step) {
		setup.Steps, setup.Changed = append(setup.Steps, s), setup.Changed || s.Changed
		word, tone := "unchanged", screen.Dim
		if s.Changed {
			word, tone = "changed", screen.Good
		}
		o.env.Note(tone, "%s: %s: %s", s.Name, word, s.What)
	}
	o.env.Note(screen.Busy, "preparing %s", host.Host())
	kvm, err := host.PrepareKVM(ctx, topology.KVMOptions{Arches: arches, WithoutSystemd: o.noSystemd, Report: report})
	if err != nil {
		return err
	}
	defer kvm.Close()
	pool := vm.PoolOf(host, o.reach.Pool, d)
	if err := score.All(ctx, kvm, report, pool.Score(), network.Score()); err != nil {
		return fmt.Errorf("prepare %s for machines: %w", host.Host(), err)
	}
	setup.URI = kvm.URI().String()
	if printer != nil {
		return cli.PrintStruct(printer, "HostSetup", setup, o.env.Streams.Out)
	}
	if !setup.Changed {
		o.env.Note(screen.Good, "nothing was to be done")
	}
	o.env.Note(screen.Good, "%s runs machines: kubectl fleet vm create NAME%s", host.Host(), flagOf(host, setup.URI))
	return nil
}

// flagOf is --connect for a host, where it is not the default.
func flagOf(host *topology.LinuxHost, uri string) string {
	if host.IsLocal() {
		return ""
	}
	return " --connect " + uri
}
