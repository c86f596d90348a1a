// Package remote is what `kubectl fleet` has a device do: ping, logs, exec, restart.
// Each is a request of the live API, so a kubeconfig is all that it takes.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// targetHelp explains what the commands take.
const targetHelp = `A placement is named DEVICE.DEPLOYMENT, as kubectl fleet placements lists it. Where a
device has but one, the name of the device is enough.`

// api speaks to the live API.
type api struct {
	*cli.Cluster
	rest   *restclient.RESTClient
	params runtime.ParameterCodec
}

func connect(env *cli.Env) (*api, error) {
	cluster, err := env.Connect()
	if err != nil {
		return nil, err
	}
	scheme := cluster.Client.Scheme()
	config := restclient.CopyConfig(cluster.Config)
	config.APIPath, config.GroupVersion = "/apis", &live.GroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	rest, err := restclient.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return &api{cluster, rest, runtime.NewParameterCodec(scheme)}, nil
}

// subresource addresses a command of an object.
func (a *api) subresource(r *restclient.Request, resource, name, subresource string) *restclient.Request {
	return r.Namespace(a.Namespace).Resource(resource).Name(name).SubResource(subresource)
}

// with adds parameters.
func (a *api) with(r *restclient.Request, options runtime.Object) *restclient.Request {
	return r.VersionedParams(options, a.params)
}

// placement finds the placement that an argument names.
func (a *api) placement(ctx context.Context, argument string) (string, error) {
	name := argument
	if kind, rest, ok := strings.Cut(argument, "/"); ok {
		if !strings.HasPrefix(kind, "placement") && kind != "plc" {
			return "", fmt.Errorf("%q: name a placement as DEVICE.DEPLOYMENT", argument)
		}
		name = rest
	}
	if strings.Contains(name, ".") {
		return name, nil
	}
	var list live.PlacementList
	err := a.Client.List(ctx, &list, &client.ListOptions{Namespace: a.Namespace, FieldSelector: fields.OneTermEqualSelector("spec.device", name)})
	if err != nil {
		return "", fmt.Errorf("find what device %s runs: %w", name, err)
	}
	switch len(list.Items) {
	case 1:
		return list.Items[0].Name, nil
	case 0:
		// Whether there is such a device is worth knowing.
		if err := a.Client.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: name}, &live.Heartbeat{}); err != nil {
			return "", fmt.Errorf("find device %s: %w", name, err)
		}
		return "", fmt.Errorf("device %s runs nothing", name)
	}
	names := make([]string, len(list.Items))
	for i, p := range list.Items {
		names[i] = p.Name
	}
	return "", fmt.Errorf("device %s runs several Deployments, say which: %s", name, strings.Join(names, ", "))
}

// stream opens a request whose answer is read as it comes. What cuts it off is the
// error of the last Read.
func (a *api) stream(ctx context.Context, r *restclient.Request) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL().String(), nil)
	if err != nil {
		return nil, err
	}
	// Go's client needs nothing more to read them.
	request.Header.Set("TE", "trailers")
	response, err := a.rest.Client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return &body{response}, nil
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if status := statusError(raw); status != nil {
		return nil, status
	}
	return nil, apierrors.NewGenericServerResponse(response.StatusCode, http.MethodGet, live.GroupVersion.WithResource("placements").GroupResource(), "", string(raw), 0, true)
}

// body is a stream that knows whether it is whole.
type body struct{ *http.Response }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if text := b.Trailer.Get(live.StatusTrailer); text != "" {
		if status := statusError([]byte(text)); status != nil {
			return n, status
		}
		return n, fmt.Errorf("it was cut off: %s", text)
	}
	return n, io.EOF
}

func (b *body) Close() error { return b.Body.Close() }

// statusError reads a Status; nil if it is none.
func statusError(raw []byte) error {
	var status metav1.Status
	if json.Unmarshal(raw, &status) != nil || status.Status != metav1.StatusFailure {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: status}
}

// do sends a request and reads its answer.
func (a *api) do(ctx context.Context, r *restclient.Request, into runtime.Object) error {
	raw, err := r.MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		if status := statusError(raw); status != nil {
			return status
		}
		return err
	}
	return json.Unmarshal(raw, into)
}

// atLeastOne wants an argument and says of what.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("the name of a %s is missing: %s", what, cmd.UseLine())
		}
		return nil
	}
}
