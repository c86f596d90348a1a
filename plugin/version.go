package plugin

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/internal/version"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// operatorName is how the operator's Deployment is labelled and its image called.
const operatorName = "fleet-operator"

// Versions is what `kubectl fleet version` knows.
type Versions struct {
	Client Client `json:"client"`
	// Server is missing with --client and when the cluster can't be reached.
	Server *Server `json:"server,omitempty"`
}

// Client is this binary.
type Client struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Server is what the cluster runs.
type Server struct {
	// Kubernetes is the version of the API server.
	Kubernetes string `json:"kubernetes"`
	// API are the versions of the fleet's kinds, the preferred first; empty when
	// they are not installed.
	API []string `json:"api"`
	// Operators are those that the cluster runs and that you may see.
	Operators []Operator `json:"operators"`
	// Unread says why something could not be told.
	Unread []string `json:"unread,omitempty"`
}

// Operator is a fleet-operator in the cluster.
type Operator struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Version is the label app.kubernetes.io/version, or the tag of the image.
	Version string `json:"version,omitempty"`
	Image   string `json:"image,omitempty"`
	Ready   int32  `json:"ready"`
	Wanted  int32  `json:"wanted"`
}

func newVersionCommand(env *cli.Env) *cobra.Command {
	var output cli.Output
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this plugin, the operator and the API",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			printer, err := output.Printer()
			if err != nil {
				return err
			}
			v := Versions{Client: Client{version.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}}
			var unreachable error
			if !clientOnly {
				v.Server, unreachable = gatherServer(cmd.Context(), env)
			}
			if printer != nil {
				err = cli.PrintStruct(printer, "Version", v, env.Streams.Out)
			} else {
				_, err = fmt.Fprint(env.Streams.Out, renderVersions(env.Style(env.Streams.Out), v))
			}
			if err != nil {
				return err
			}
			return unreachable
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "Do not ask the cluster.")
	output.AddFlags(cmd)
	return cmd
}

func gatherServer(ctx context.Context, env *cli.Env) (*Server, error) {
	cluster, err := env.Connect()
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfig(cluster.Config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", cluster.Config.Host, err)
	}
	info, err := d.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask for the API server's version: %w", err)
	}
	s := &Server{Kubernetes: info.GitVersion, API: []string{}, Operators: []Operator{}}
	groups, err := d.ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("ask for the API groups: %w", err)
	}
	for _, group := range groups.Groups {
		if group.Name != v1alpha1.GroupVersion.Group {
			continue
		}
		s.API = append(s.API, group.PreferredVersion.Version)
		for _, v := range group.Versions {
			if v.Version != group.PreferredVersion.Version {
				s.API = append(s.API, v.Version)
			}
		}
	}
	if s.Operators, err = operators(ctx, cluster); err != nil {
		s.Unread = append(s.Unread, err.Error())
	}
	return s, nil
}

// operators looks in all namespaces, and where that is not allowed in the one that
// the operator usually lives in.
func operators(ctx context.Context, cluster *cli.Cluster) ([]Operator, error) {
	list := &appsv1.DeploymentList{}
	byLabel := client.MatchingLabels{"app.kubernetes.io/name": operatorName}
	err := cluster.Client.List(ctx, list, byLabel)
	if apierrors.IsForbidden(err) {
		err = cluster.Client.List(ctx, list, byLabel, client.InNamespace("fleet-system"))
	}
	if err != nil {
		return []Operator{}, fmt.Errorf("list deployments.apps to find the operator: %w", err)
	}
	out := []Operator{}
	for i := range list.Items {
		out = append(out, operatorOf(&list.Items[i]))
	}
	return out, nil
}

func operatorOf(d *appsv1.Deployment) Operator {
	o := Operator{Namespace: d.Namespace, Name: d.Name, Ready: d.Status.ReadyReplicas, Wanted: 1}
	if d.Spec.Replicas != nil {
		o.Wanted = *d.Spec.Replicas
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		if o.Image == "" || strings.Contains(c.Image, operatorName) {
			o.Image = c.Image
		}
	}
	o.Version = cmp.Or(d.Labels["app.kubernetes.io/version"], tagOf(o.Image))
	return o
}

// tagOf is the tag of an image, without registry, port and digest.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	last := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(last, ":")
	return tag
}

func renderVersions(s screen.Style, v Versions) string {
	row := func(name, value string) []screen.Cell {
		return []screen.Cell{{Text: name, Tone: screen.Dim}, {Text: screen.Safe(value)}}
	}
	rows := [][]screen.Cell{row("Client", fmt.Sprintf("%s  (%s, %s)", v.Client.Version, v.Client.Go, v.Client.Platform))}
	if v.Server != nil {
		api := strings.Join(v.Server.API, ", ")
		if api == "" {
			api = "not installed"
		}
		rows = append(rows, row("API", api))
		for _, o := range v.Server.Operators {
			rows = append(rows, row("Operator", fmt.Sprintf("%s  (%s/%s, %d of %d ready)", cmp.Or(o.Version, "unknown"), o.Namespace, o.Name, o.Ready, o.Wanted)))
		}
		if len(v.Server.Operators) == 0 && len(v.Server.Unread) == 0 {
			rows = append(rows, row("Operator", "none runs in this cluster"))
		}
		rows = append(rows, row("Kubernetes", v.Server.Kubernetes))
	}
	text := strings.Join(s.Grid("", rows), "\n") + "\n"
	if v.Server != nil {
		for _, note := range v.Server.Unread {
			text += s.Paint(screen.Dim, "# "+screen.Safe(note)) + "\n"
		}
	}
	return text
}
