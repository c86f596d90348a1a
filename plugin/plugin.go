// Package plugin is `kubectl fleet`: what a person or a pipeline asks a fleet.
//
// Every command gathers a plain struct and then prints it, for people or with -o
// for programs.
package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"

	"github.com/nationtech/fleet/plugin/approval"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/delivery"
	"github.com/nationtech/fleet/plugin/describe"
	"github.com/nationtech/fleet/plugin/devices"
	"github.com/nationtech/fleet/plugin/heartbeats"
	"github.com/nationtech/fleet/plugin/host"
	"github.com/nationtech/fleet/plugin/placements"
	"github.com/nationtech/fleet/plugin/reconcile"
	"github.com/nationtech/fleet/plugin/remote"
	"github.com/nationtech/fleet/plugin/repo"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/plugin/status"
	"github.com/nationtech/fleet/plugin/token"
	"github.com/nationtech/fleet/plugin/top"
	"github.com/nationtech/fleet/plugin/vm"
)

// commandName is the name of the binary. kubectl finds it by this name and the
// user writes it as two words.
const commandName = "kubectl-fleet"

// NewCommand is the root command.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCommand(cli.NewEnv(streams))
}

func newCommand(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:         commandName,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fleet"},
		Short:       "Follow a fleet of devices from Git to every device",
		Long: `Follow a fleet of devices from Git to every device.

Git decides what devices run, Flux brings it into the cluster, the fleet operator
tells the devices. These commands show where on this way something is, and what is
wrong.`,
		Example: `  # Is everything well?
  kubectl fleet status

  # Who is gone?
  kubectl fleet devices -A --health not-ready

  # Wait for a rollout
  kubectl fleet rollout status telemetry --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Errors are printed in one place, with what to do about them.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(env.Streams.In)
	root.SetOut(env.Streams.Out)
	root.SetErr(env.Streams.ErrOut)
	addGlobalFlags(root, env)
	root.AddCommand(
		status.NewCommand(env),
		top.NewCommand(env),
		newDevicesCommand(env),
		describe.NewCommand(env),
		heartbeats.NewCommand(env),
		placements.NewCommand(env),
		rollout.NewCommand(env),
		delivery.NewWaitCommand(env),
		delivery.NewTraceCommand(env),
		delivery.NewLogCommand(env),
		reconcile.NewCommand(env),
		reconcile.NewSuspendCommand(env),
		reconcile.NewResumeCommand(env),
		token.NewCommand(env),
		approval.NewApproveCommand(env),
		approval.NewDenyCommand(env),
		approval.NewRevokeCommand(env),
		remote.NewLogsCommand(env),
		remote.NewExecCommand(env),
		remote.NewPingCommand(env),
		remote.NewRestartCommand(env),
		repo.NewCommand(env),
		host.NewCommand(env),
		vm.NewCommand(env),
		newVersionCommand(env),
		newCompletionCommand(env.Streams),
		newOptionsCommand(),
	)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetUsageTemplate(usageTemplate)
	return root
}

// newDevicesCommand is `kubectl fleet devices`, with what can be done with devices below.
func newDevicesCommand(env *cli.Env) *cobra.Command {
	cmd := devices.NewCommand(env)
	cmd.AddCommand(approval.NewResetKeyCommand(env))
	return cmd
}

func addGlobalFlags(root *cobra.Command, env *cli.Env) {
	flags := root.PersistentFlags()
	env.Config.AddFlags(flags)
	flags.Var(&env.Color, "color", fmt.Sprintf("When to use colours: %s.", strings.Join(screen.ColorModes(), ", ")))
	// -v as in kubectl: 6 shows requests, 8 their content.
	verbosity := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(verbosity)
	flags.AddGoFlag(verbosity.Lookup("v"))

	completions := map[string]cobra.CompletionFunc{
		"namespace": env.CompleteNamespaces,
		"context":   env.CompleteContexts,
		"color":     cobra.FixedCompletions(screen.ColorModes(), cobra.ShellCompDirectiveNoFileComp),
	}
	for name, complete := range completions {
		// It fails only for a flag that does not exist.
		_ = root.RegisterFlagCompletionFunc(name, complete)
	}
}

// Execute runs the command line and returns the exit code.
func Execute(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	return execute(ctx, args, cli.NewEnv(streams))
}

func execute(ctx context.Context, args []string, env *cli.Env) int {
	root := newCommand(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return cli.CodeOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return cli.CodeInterrupted
	}
	report(env.Streams.ErrOut, env.Style(env.Streams.ErrOut), err)
	return cli.CodeOf(err)
}

// report says what went wrong, and what to do when that is known.
func report(w io.Writer, style screen.Style, err error) {
	if cli.IsSilent(err) {
		return
	}
	fmt.Fprintf(w, "%s %s\n", style.Paint(screen.Bad, "error:"), strings.TrimSpace(err.Error()))
	if hint := cli.Explain(err); hint != "" {
		fmt.Fprintln(w, hint)
	}
}

// StandardStreams are those of the process.
func StandardStreams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
}
