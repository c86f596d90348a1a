package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	"k8s.io/kubectl/pkg/util/term"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/utils/ptr"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

type execOptions struct {
	container  string
	stdin, tty bool
}

// NewExecCommand is `kubectl fleet exec`.
func NewExecCommand(env *cli.Env) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{
		Use:   "exec DEVICE[.DEPLOYMENT] -- COMMAND [ARG...]",
		Short: "Run a command in a container on a device",
		Long: `Run a command in a container on a device. The exit code is the command's.

` + targetHelp + `
A device forbids this unless its agent's configuration has commands.exec: allow.`,
		Example: `  # A shell
  kubectl fleet exec -it till-7.signage -- sh

  # One command, in a container that is not the only one
  kubectl fleet exec till-7.signage -c player -- cat /etc/player.conf`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 || dash == 0:
				return fmt.Errorf("the name of a placement is missing: %s", cmd.UseLine())
			case dash == -1 && len(args) > 1:
				return fmt.Errorf("put -- before the command: kubectl fleet exec %s -- %s", args[0], args[1])
			case dash == -1 || len(args) == dash:
				return fmt.Errorf("the command is missing: %s", cmd.UseLine())
			case dash > 1:
				return errors.New("one placement at a time")
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return env.CompletePlacements(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.container, "container", "c", "", "Name of the container; not needed where there is but one.")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "Give the command the standard input.")
	f.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal; wants --stdin, and a terminal here.")
	return cmd
}

func (o *execOptions) run(ctx context.Context, env *cli.Env, argument string, command []string) error {
	if o.tty && !o.stdin {
		return errors.New("--tty wants --stdin too: -it")
	}
	t := term.TTY{In: env.Streams.In, Out: env.Streams.Out}
	if o.tty && !t.IsTerminalIn() {
		fmt.Fprintln(env.Streams.ErrOut, "the input is not a terminal: the command gets none")
		o.tty = false
	}
	a, err := connect(env)
	if err != nil {
		return err
	}
	name, err := a.placement(ctx, argument)
	if err != nil {
		return err
	}
	options := &live.PlacementExecOptions{Container: o.container, Command: command, Stdin: o.stdin, TTY: o.tty}
	if size := t.GetSize(); o.tty && size != nil && size.Width > 0 && size.Height > 0 {
		options.Width, options.Height = ptr.To(int64(size.Width)), ptr.To(int64(size.Height))
	}
	request := a.with(a.subresource(a.rest.Get(), "placements", name, "exec"), options)
	executor, err := remotecommand.NewWebSocketExecutor(a.Config, http.MethodGet, request.URL().String())
	if err != nil {
		return err
	}
	streams := remotecommand.StreamOptions{Stdout: env.Streams.Out, Tty: o.tty}
	if o.stdin {
		streams.Stdin = env.Streams.In
	}
	if o.tty {
		t.Raw = true
		streams.TerminalSizeQueue = sizes{t.MonitorSize(t.GetSize())}
	} else {
		streams.Stderr = env.Streams.ErrOut
	}
	err = t.Safe(func() error { return executor.StreamWithContext(ctx, streams) })
	if code, ok := errors.AsType[clientexec.CodeExitError](err); ok {
		return &cli.ExitError{Code: code.Code, Err: code}
	}
	if refused, ok := errors.AsType[*httpstream.UpgradeFailureError](err); ok {
		err = refused.Cause
	}
	if err != nil {
		return fmt.Errorf("exec in %s: %w", name, err)
	}
	return nil
}

// sizes are kubectl's, for client-go.
type sizes struct{ queue term.TerminalSizeQueue }

func (s sizes) Next() *remotecommand.TerminalSize {
	next := s.queue.Next()
	if next == nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: next.Width, Height: next.Height}
}
