package cli

import (
	"fmt"
	"io"
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

// Output is the flag -o of a command that prints a struct of its own.
type Output struct {
	flags *genericclioptions.PrintFlags
}

// AddFlags adds -o, --template and what belongs to them.
func (o *Output) AddFlags(cmd *cobra.Command) {
	o.flags = genericclioptions.NewPrintFlags("")
	// These structs are no API objects: they have no name to print and no managed
	// fields to hide.
	formats := append(o.flags.JSONYamlPrintFlags.AllowedFormats(), o.flags.TemplatePrinterFlags.AllowedFormats()...)
	o.flags.NamePrintFlags = nil
	o.flags.JSONYamlPrintFlags.ShowManagedFields = true
	o.flags.TemplatePrinterFlags.AddFlags(cmd)
	cmd.Flags().StringVarP(o.flags.OutputFormat, "output", "o", "",
		fmt.Sprintf("Output format for programs. One of: (%s).", strings.Join(formats, ", ")))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// Printer is what -o asks for; nil when it was not given and the output is for
// people.
func (o *Output) Printer() (printers.ResourcePrinter, error) {
	if *o.flags.OutputFormat == "" && *o.flags.TemplatePrinterFlags.TemplateArgument == "" {
		return nil, nil
	}
	return o.flags.ToPrinter()
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
