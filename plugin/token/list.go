package token

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// Kept is what is known of a token: all but its secret and the hash of that.
type Kept struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
	// Uses is how many devices may join with it, 0 any number, and Used how many have.
	Uses int `json:"uses"`
	Used int `json:"used"`
	// Expires is when it ceases to be valid; Valid is that it is not over, and not used
	// up.
	Expires metav1.Time `json:"expires"`
	Valid   bool        `json:"valid"`
	// Approve is auto or manual.
	Approve string `json:"approve"`
	// Labels are those of the devices that join with it.
	Labels  map[string]string `json:"labels,omitempty"`
	Created metav1.Time       `json:"created"`
}

func keptOf(t *jointoken.Token, now time.Time) Kept {
	approve := jointoken.ApproveManual
	if t.AutoApprove {
		approve = jointoken.ApproveAuto
	}
	return Kept{
		Namespace: t.Namespace, ID: t.ID, Uses: t.Uses, Used: t.Used, Approve: approve, Labels: t.Labels,
		Expires: metav1.NewTime(t.Expires), Valid: now.Before(t.Expires) && !t.UsedUp(1), Created: metav1.NewTime(t.Created),
	}
}

// List is what `kubectl fleet token list` knows.
type List struct {
	Tokens []Kept `json:"tokens"`
	// Operator is missing when it could not be read.
	Operator *Operator `json:"operator,omitempty"`
}

type listOptions struct {
	env      *cli.Env
	all      bool
	operator string
	output   cli.Output
}

func newListCommand(env *cli.Env) *cobra.Command {
	o := listOptions{env: env}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List the tokens, and what they are still good for",
		Long: `List the join tokens: how many devices have joined with each and how many may, until
when it is valid, and which labels its devices get. A token's text can't be read again.

stderr has the fingerprint of the operator, with which a device joins whose public key
is in its Device already and that needs no token. Tokens are Secrets: it takes the
permission to list those of the namespace.`,
		Example: `  kubectl fleet token list -A

  # Revoke every token of a namespace
  kubectl fleet token list -n shops -o name | xargs kubectl fleet token revoke -n shops`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cli.AddAllNamespacesFlag(cmd, &o.all)
	AddOperatorFlag(cmd, env, &o.operator)
	o.output.AddFlags(cmd, cli.Wide, cli.Name)
	return cmd
}

func (o *listOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	scope := cluster.Scope(o.all)
	objects, _, err := cli.ListAll(ctx, cluster.Client, &corev1.SecretList{}, client.ListOptions{
		Namespace: scope.Namespace, FieldSelector: fields.OneTermEqualSelector("type", string(jointoken.SecretType)),
	})
	if err != nil {
		return fmt.Errorf("list join tokens in %s: %w", scope, err)
	}
	list, says := List{Tokens: []Kept{}}, o.env.Streams.ErrOut
	for _, object := range objects {
		t, err := jointoken.FromSecret(object.(*corev1.Secret))
		if err != nil {
			o.env.Style(says).Note(says, screen.Warn, err.Error())
			continue
		}
		list.Tokens = append(list.Tokens, keptOf(t, o.env.Now()))
	}
	slices.SortFunc(list.Tokens, func(a, b Kept) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), a.Created.Compare(b.Created.Time), cmp.Compare(a.ID, b.ID))
	})
	operator, unread := readOperator(ctx, cluster.Client, o.operator)
	if unread == nil {
		list.Operator = &operator
	}
	if err := o.show(printer, list, scope); err != nil || printer != nil || o.output.Is(cli.Name) {
		return err
	}
	style := o.env.Style(says)
	if unread != nil {
		style.Note(says, screen.Warn, "The operator's fingerprint is not known: "+unread.Error())
		return nil
	}
	style.Note(says, screen.Dim, "A device whose key is in its Device needs no token, but the operator's fingerprint:")
	_, err = fmt.Fprintf(says, "    sudo -u fleet-agent fleet-agent join --server %s --fingerprint %s\n", screen.Safe(operator.Server), operator.Fingerprint)
	return err
}

func (o *listOptions) show(printer printers.ResourcePrinter, list List, scope cli.Scope) error {
	out := o.env.Streams.Out
	switch {
	case printer != nil:
		return cli.PrintStruct(printer, "JoinTokenList", list, out)
	case o.output.Is(cli.Name):
		var names []string
		for _, t := range list.Tokens {
			names = append(names, "secret/"+jointoken.SecretName(t.ID))
		}
		return cli.PrintNames(out, names...)
	case len(list.Tokens) == 0:
		_, err := fmt.Fprintf(o.env.Streams.ErrOut, "No join tokens in %s.\n", scope)
		return err
	}
	options := printers.PrintOptions{Wide: o.output.Is(cli.Wide), WithNamespace: scope.All()}
	return printers.NewTablePrinter(options).PrintObj(table(list.Tokens, o.env.Now()), out)
}

func table(tokens []Kept, now time.Time) *metav1.Table {
	out := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "ID", Type: "string", Format: "name"},
		{Name: "Used", Type: "string"},
		{Name: "Expires", Type: "string"},
		{Name: "Approve", Type: "string"},
		{Name: "Labels", Type: "string"},
		{Name: "Age", Type: "string"},
		{Name: "Secret", Type: "string", Priority: 1},
		{Name: "Until", Type: "string", Priority: 1},
	}}
	for _, t := range tokens {
		used := screen.Ratio(t.Used, t.Uses)
		if t.Uses == 0 {
			used = screen.Count(t.Used) + "/any"
		}
		expires := "in " + screen.Age(t.Expires.Time, now)
		if !now.Before(t.Expires.Time) {
			expires = "expired " + screen.Ago(now, t.Expires.Time)
		}
		meta := metav1.ObjectMeta{Namespace: t.Namespace, Name: jointoken.SecretName(t.ID)}
		out.Rows = append(out.Rows, metav1.TableRow{
			Cells: []any{
				t.ID, used, expires, t.Approve, screen.OrNone(labels.Set(t.Labels).String()), screen.Age(now, t.Created.Time),
				meta.Name, t.Expires.UTC().Format(time.RFC3339),
			},
			// For -A.
			Object: runtime.RawExtension{Object: &metav1.PartialObjectMetadata{ObjectMeta: meta}},
		})
	}
	return out
}
