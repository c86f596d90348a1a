package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// outputVersion marks what the plugin itself computes, so that scripts can tell
// when its shape changes. No API server knows these kinds.
var outputVersion = schema.GroupVersion{Group: "cli.fleet.nationtech.io", Version: "v1alpha1"}

// Formats that a command prints itself, where it has them.
const (
	// Wide is for people, with everything that there is to say.
	Wide = "wide"
	// Name is the names of the objects that the command shows, as kubectl takes them.
	Name = "name"
)

// Output is the flag -o of a command that prints a struct of its own.
type Output struct {
	flags *genericclioptions.PrintFlags
	own   []string
}

// AddFlags adds -o, --template and what belongs to them; own are the formats that
// the command prints itself.
func (o *Output) AddFlags(cmd *cobra.Command, own ...string) {
	o.flags, o.own = genericclioptions.NewPrintFlags(""), own
	// These structs are no API objects: they have no name to print and no managed
	// fields to hide.
	formats := o.formats()
	o.flags.NamePrintFlags = nil
	o.flags.JSONYamlPrintFlags.ShowManagedFields = true
	o.flags.TemplatePrinterFlags.AddFlags(cmd)
	cmd.Flags().StringVarP(o.flags.OutputFormat, "output", "o", "",
		fmt.Sprintf("Output format. One of: (%s).", strings.Join(formats, ", ")))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// Is reports whether -o asks for one of the command's own formats.
func (o *Output) Is(format string) bool {
	return *o.flags.OutputFormat == format && slices.Contains(o.own, format)
}

// Printer is what -o asks for; nil when it was not given, or is one of the
// command's own formats.
func (o *Output) Printer() (printers.ResourcePrinter, error) {
	format := *o.flags.OutputFormat
	if slices.Contains(o.own, format) || format == "" && *o.flags.TemplatePrinterFlags.TemplateArgument == "" {
		return nil, nil
	}
	printer, err := o.flags.ToPrinter()
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		// The library's own words don't know the command's formats.
		return nil, fmt.Errorf("--output %q: must be one of %s", format, strings.Join(o.formats(), ", "))
	}
	return printer, err
}

func (o *Output) formats() []string {
	return slices.Concat(o.own, o.flags.JSONYamlPrintFlags.AllowedFormats(), o.flags.TemplatePrinterFlags.AllowedFormats())
}

// PrintNames prints the names of objects, as kubectl takes and prints them.
func PrintNames(out io.Writer, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(out, strings.Join(names, "\n"))
	return err
}

// PrintStruct prints a struct as an object of the given kind.
func PrintStruct(p printers.ResourcePrinter, kind string, value any, out io.Writer) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&value)
	if err != nil {
		return fmt.Errorf("convert %s: %w", kind, err)
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(outputVersion.WithKind(kind))
	return p.PrintObj(object, out)
}
