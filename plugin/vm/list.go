package vm

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/vm"
)

type listOptions struct {
	env    *cli.Env
	reach  cli.Reach
	output cli.Output
}

// List is what `vm list` prints.
type List struct {
	Host     string    `json:"host"`
	Machines []vm.Info `json:"machines"`
}

func newListCommand(env *cli.Env) *cobra.Command {
	o := listOptions{env: env}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List the machines of a host",
		Long: `List the machines of a host that kubectl fleet vm create has made, and how they are. How
they are as devices is what kubectl fleet devices says.`,
		Example: `  kubectl fleet vm list
  kubectl fleet vm list --connect qemu+ssh://ada@host7/system`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.reach.AddURIFlags(cmd, env)
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
	return cmd
}

func (o *listOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	host, done, err := o.reach.KVM(ctx)
	if err != nil {
		return err
	}
	defer done()
	machines, err := vm.List(ctx, host)
	if err != nil {
		return err
	}
	out := o.env.Streams.Out
	switch {
	case printer != nil:
		return cli.PrintStruct(printer, "MachineList", List{Host: host.Linux().Host(), Machines: machines}, out)
	case o.output.Is(cli.Name):
		var names []string
		for _, m := range machines {
			names = append(names, m.Name)
		}
		return cli.PrintNames(out, names...)
	case len(machines) == 0:
		o.env.Note(screen.Dim, "No machines on %s: kubectl fleet vm create NAME makes one.", host.Linux().Host())
		return nil
	}
	return printers.NewTablePrinter(printers.PrintOptions{Wide: o.output.Is(cli.Wide)}).PrintObj(table(machines), out)
}

func table(machines []vm.Info) *metav1.Table {
	out := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "State", Type: "string"},
		{Name: "CPUs", Type: "integer"},
		{Name: "Memory", Type: "string"},
		{Name: "Addresses", Type: "string"},
		{Name: "MAC", Type: "string", Priority: 1},
		{Name: "Reason", Type: "string", Priority: 1},
	}}
	for _, m := range machines {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: []any{
			m.Name, m.State, m.CPUs, cloudimage.Bytes(m.MemoryBytes), screen.OrNone(strings.Join(m.Addresses, ",")), m.MAC, screen.OrNone(m.Reason),
		}})
	}
	return out
}
