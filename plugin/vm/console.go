package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/vm"
)

// leave is the key that leaves a console, Ctrl-], as virsh and telnet have it.
const leave = 0x1d

func newConsoleCommand(env *cli.Env) *cobra.Command {
	var reach cli.Reach
	cmd := &cobra.Command{
		Use:   "console NAME",
		Short: "Be at a machine's console",
		Long: `Be at the serial console of a machine. Ctrl-] leaves it, and Enter has the machine show
where it is. With the password of FLEET_VM_ADMIN_PASSWORD at its creation one can log in as
fleet-admin here. Without a terminal, stdin is typed and what is shown goes to stdout until
the machine ends or the command is interrupted.`,
		Example: `  kubectl fleet vm console till-7`,
		Args:    cli.ExactName("machine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, done, err := reach.KVM(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			in := env.Streams.In
			if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				env.Note(screen.Dim, "Console of %s. Ctrl-] leaves it.", args[0])
				before, err := term.MakeRaw(int(f.Fd()))
				if err != nil {
					return fmt.Errorf("set the terminal up: %w", err)
				}
				defer term.Restore(int(f.Fd()), before)
				in = &leaver{in: in, leave: cancel}
			}
			return vm.Console(ctx, host, args[0], struct {
				io.Reader
				io.Writer
			}{in, env.Streams.Out})
		},
	}
	reach.AddURIFlags(cmd, env)
	cmd.ValidArgsFunction = completeMachines(&reach)
	return cmd
}

// leaver types what a person types, up to the key that leaves.
type leaver struct {
	in    io.Reader
	leave func()
}

// Read is what was typed.
func (l *leaver) Read(p []byte) (int, error) {
	n, err := l.in.Read(p)
	if at := bytes.IndexByte(p[:n], leave); at >= 0 {
		l.leave()
		return at, io.EOF
	}
	return n, err
}
