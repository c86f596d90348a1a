package host

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/preflight"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

type checkOptions struct {
	env    *cli.Env
	reach  cli.Reach
	arch   string
	output cli.Output
}

// Check is what a host has and lacks.
type Check struct {
	Host     string              `json:"host"`
	Worst    preflight.Level     `json:"worst"`
	Findings []preflight.Finding `json:"findings"`
}

func newCheckCommand(env *cli.Env) *cobra.Command {
	o := checkOptions{env: env}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what a host lacks for machines, and how to get it",
		Long: `Say what a host lacks for machines, and how to get it. It changes nothing.

Exit codes: 0 machines can run, 1 something is missing, 3 the host can't be looked at.`,
		Example: `  kubectl fleet host check
  kubectl fleet host check --connect ssh://ada@host7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.reach.AddHostFlags(cmd, env)
	cmd.Flags().StringVar(&o.arch, "arch", string(libvirt.HostArch()), "Architecture of the machines, x86_64 or aarch64.")
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{string(libvirt.X86_64), string(libvirt.AArch64)}, cobra.ShellCompDirectiveNoFileComp))
	o.output.AddFlags(cmd)
	return cmd
}

func (o *checkOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	arch, err := libvirt.ParseArch(o.arch)
	if err != nil {
		return fmt.Errorf("--arch: %w", err)
	}
	d, err := dirs.Find()
	if err != nil {
		return err
	}
	cache, err := d.Cache()
	if err != nil {
		return err
	}
	host, uri, err := o.host(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	want := preflight.Want{Arch: arch, Setup: o.reach.Setup(host)}
	kvm, facts, err := preflight.Look(ctx, host, uri, o.reach.Pool, vm.TriedIn(cache), want)
	if kvm != nil {
		defer kvm.Close()
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", host.Host(), err)
	}
	check := Check{Host: host.Host(), Findings: preflight.Judge(facts, want)}
	check.Worst = preflight.Worst(check.Findings)
	if printer != nil {
		err = cli.PrintStruct(printer, "HostCheck", check, o.env.Streams.Out)
	} else {
		o.show(check)
	}
	if err == nil && check.Worst == preflight.Bad {
		return cli.Exit(cli.CodeBad)
	}
	return err
}

// host is a host as it comes, or that of a libvirt URI, which may have its socket elsewhere.
func (o *checkOptions) host(ctx context.Context) (*topology.LinuxHost, libvirt.URI, error) {
	if strings.HasPrefix(o.reach.Connect, "qemu") {
		uri, err := o.reach.URI()
		if err != nil {
			return nil, uri, err
		}
		host, err := o.reach.HostOf(ctx, uri)
		return host, uri, err
	}
	host, err := o.reach.Linux(ctx)
	if err != nil {
		return nil, libvirt.URI{}, err
	}
	uri, err := host.URI()
	return host, uri, err
}

func (o *checkOptions) show(check Check) {
	out := o.env.Streams.Out
	style := o.env.Style(out)
	for _, f := range check.Findings {
		style.Note(out, Tone(f.Level), f.What+": "+f.Message)
		if f.Remedy != "" {
			fmt.Fprintln(out, "  "+f.Remedy)
		}
	}
}

// Tone is how a level is shown.
func Tone(l preflight.Level) screen.Tone {
	return map[preflight.Level]screen.Tone{preflight.Good: screen.Good, preflight.Warn: screen.Warn, preflight.Bad: screen.Bad}[l]
}
