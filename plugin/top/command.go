// Package top is `kubectl fleet top`: the fleet as it is at this moment, on a screen
// that keeps itself up to date.
package top

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleet/plugin/cli"
)

type options struct {
	all      bool
	selector string
	sort     string
}

// NewCommand is `kubectl fleet top`.
func NewCommand(env *cli.Env) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "top",
		Short: "The fleet at this moment, on a screen that keeps itself up to date",
		Long: `The fleet at this moment, on a screen that keeps itself up to date: devices with
their heartbeats, and placements, which are what runs on them. What is worst comes
first.

Tab goes from devices to placements and back, Enter shows all about the selected one,
/ filters, p leaves only problems, ? shows every key, q ends it.

Where there is no terminal, and with TERM=dumb, it prints the same once, every row of
both views, and ends. For programs there are kubectl get heartbeats and kubectl get
placements with -o json.

--sort begins with an order that s would come to; an order that only one of the views
has begins with that view.`,
		Example: `  # The namespace of the current context
  kubectl fleet top

  # Everything
  kubectl fleet top -A

  # What restarts most at one site
  kubectl fleet top -l site=montreal --sort restarts

  # Once, for a report
  kubectl fleet top -A | less`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), env)
		},
	}
	cli.AddAllNamespacesFlag(cmd, &o.all)
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "Only devices with these labels and what runs on them, such as site=montreal,line!=4.")
	cmd.Flags().StringVar(&o.sort, "sort", orders()[0], fmt.Sprintf("The order to begin with. One of: (%s).", strings.Join(orders(), ", ")))
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(orders(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// orders of both views.
func orders() []string {
	names := deviceKind(nil).orderNames()
	for _, name := range placementKind(nil).orderNames() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (o *options) run(ctx context.Context, env *cli.Env) error {
	if !slices.Contains(orders(), o.sort) {
		return fmt.Errorf("--sort %q: must be one of %s", o.sort, strings.Join(orders(), ", "))
	}
	list, err := (cli.Scope{Selector: o.selector}).ListOptions()
	if err != nil {
		return err
	}
	cluster, err := env.Connect()
	if err != nil {
		return err
	}
	scope := cluster.Scope(o.all)
	scope.Selector, list.Namespace = o.selector, scope.Namespace
	m := newModel(env.Style(env.Streams.Out), scope, o.sort, env.Now())
	feed := newFeed(cluster, scope, list, env.Now)
	if isScreen(env) {
		return interact(ctx, env, m, feed)
	}
	f, err := feed.once(ctx)
	if err != nil {
		return err
	}
	m.Update(f)
	_, err = fmt.Fprint(env.Streams.Out, m.snapshot())
	return err
}

// isScreen reports whether there is a screen to draw on, and keys to listen to.
func isScreen(env *cli.Env) bool {
	for _, stream := range []any{env.Streams.In, env.Streams.Out} {
		if f, ok := stream.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return env.Getenv("TERM") != "dumb"
}
