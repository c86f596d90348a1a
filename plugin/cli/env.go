// Package cli is what the plugin's commands share: the way to the cluster, what
// they write to, how they end, and what an error tells a person to do.
package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/screen"
)

// Env is what every command is given.
type Env struct {
	Streams genericiooptions.IOStreams
	// Config holds kubectl's own flags: --context, --namespace and so on.
	Config *genericclioptions.ConfigFlags
	// Color is the value of --color.
	Color screen.ColorMode
	// Now is the clock that ages are told by.
	Now func() time.Time
	// Getenv reads the environment.
	Getenv func(string) string
}

// NewEnv is the environment of the running process.
func NewEnv(streams genericiooptions.IOStreams) *Env {
	return &Env{
		Streams: streams,
		Config:  genericclioptions.NewConfigFlags(true),
		Color:   screen.ColorAuto,
		Now:     time.Now,
		Getenv:  os.Getenv,
	}
}

// Style is what out can show.
func (e *Env) Style(out io.Writer) screen.Style {
	return screen.Detect(out, e.Color, e.Getenv)
}

// Scope is the part of the cluster that a command looks at.
type Scope struct {
	// Namespace is empty for all namespaces.
	Namespace string
	// Selector chooses objects by their labels; empty is all of them.
	Selector string
}

// All reports whether the scope is every namespace.
func (s Scope) All() bool { return s.Namespace == "" }

// Key names an object of the scope: with its namespace only where that is not
// clear.
func (s Scope) Key(namespace, name string) string {
	if s.All() {
		return namespace + "/" + name
	}
	return name
}

// String is the scope in words.
func (s Scope) String() string {
	text := "namespace " + s.Namespace
	if s.All() {
		text = "all namespaces"
	}
	if s.Selector != "" {
		text += " with labels " + s.Selector
	}
	return text
}

// Flags are the scope as it is written on a command line.
func (s Scope) Flags() string {
	text := " -n " + s.Namespace
	if s.All() {
		text = " -A"
	}
	if s.Selector != "" {
		text += " -l '" + s.Selector + "'"
	}
	return text
}

// ListOptions list what is in the scope.
func (s Scope) ListOptions() (client.ListOptions, error) {
	selector, err := labels.Parse(s.Selector)
	if err != nil {
		return client.ListOptions{}, fmt.Errorf("--selector %q: %w", s.Selector, err)
	}
	return client.ListOptions{Namespace: s.Namespace, LabelSelector: selector}, nil
}

// AddAllNamespacesFlag adds -A as kubectl has it.
func AddAllNamespacesFlag(cmd *cobra.Command, all *bool) {
	cmd.Flags().BoolVarP(all, "all-namespaces", "A", false, "Look at all namespaces, whatever --namespace says.")
}
