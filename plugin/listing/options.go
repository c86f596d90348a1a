package listing

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/cmd/get"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
)

// Options are the flags that every list has.
type Options struct {
	// Filters are the command's own flags that choose among what there is.
	Filters []string
	// Fields are what these ask of the API server, beside --field-selector.
	Fields []fields.Selector

	all           bool
	selector      string
	fieldSelector string
	watch         bool
	watchEvents   bool
	print         *get.PrintFlags
	flags         *pflag.FlagSet
}

// AddFlags adds the flags; noun is what is listed, field an example for
// --field-selector.
func (o *Options) AddFlags(cmd *cobra.Command, noun, field string) {
	o.print, o.flags = get.NewGetPrintFlags(), cmd.Flags()
	// One kind only: there is nothing to tell apart.
	o.print.HumanReadableFlags.ShowKind = nil
	cli.AddAllNamespacesFlag(cmd, &o.all)
	o.flags.StringVarP(&o.selector, "selector", "l", "", fmt.Sprintf("Only %ss with these labels, such as site=montreal,line!=4.", noun))
	o.flags.StringVar(&o.fieldSelector, "field-selector", "", fmt.Sprintf("Only %ss with these fields, such as %s.", noun, field))
	o.flags.BoolVarP(&o.watch, "watch", "w", false, "After listing, go on with every change.")
	o.flags.BoolVar(&o.watchEvents, "output-watch-events", false, "With --watch, say what kind of change it is.")
	o.print.AddFlags(cmd)
}

// Human reports whether the output is a table for people.
func (o *Options) Human() bool {
	format := *o.print.OutputFormat
	return (format == "" || format == "wide") && *o.print.TemplateFlags.TemplateArgument == ""
}

func (o *Options) validate(noun string, names []string) error {
	switch {
	case len(names) > 0 && o.narrowed():
		return fmt.Errorf("give either names or %s, not both", o.filters())
	case len(names) > 0 && o.all:
		return fmt.Errorf("a %s cannot be named across all namespaces: use -n, or -A with --field-selector metadata.name=NAME", noun)
	case len(names) > 1 && o.watch:
		return fmt.Errorf("--watch follows one named %s or a list, not several names", noun)
	case o.watchEvents && !o.watch:
		return errors.New("--output-watch-events can only be used with --watch")
	case *o.print.HumanReadableFlags.SortBy != "" && o.watch:
		return errors.New("--sort-by cannot be used with --watch: changes come in the order in which they happen")
	}
	return nil
}

// narrowed reports whether a flag chooses among what there is.
func (o *Options) narrowed() bool {
	for _, name := range o.choosing() {
		if o.flags.Changed(name) {
			return true
		}
	}
	return false
}

func (o *Options) choosing() []string {
	return append([]string{"selector", "field-selector"}, o.Filters...)
}

// filters are the flags that choose, in words.
func (o *Options) filters() string {
	all := o.choosing()
	last := len(all) - 1
	return "--" + strings.Join(all[:last], ", --") + " and --" + all[last]
}

func (o *Options) listOptions(scope cli.Scope, names []string) (client.ListOptions, error) {
	out := client.ListOptions{Namespace: scope.Namespace}
	var err error
	if out.LabelSelector, err = labels.Parse(o.selector); err != nil {
		return out, fmt.Errorf("--selector %q: %w", o.selector, err)
	}
	selector, err := fields.ParseSelector(o.fieldSelector)
	if err != nil {
		return out, fmt.Errorf("--field-selector %q: %w", o.fieldSelector, err)
	}
	terms := append([]fields.Selector{selector}, o.Fields...)
	if len(names) == 1 {
		terms = append(terms, named(names[0]))
	}
	out.FieldSelector = fields.AndSelectors(terms...)
	return out, nil
}

// named selects the one object of a name.
func named(name string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", name) }
