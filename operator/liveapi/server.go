package liveapi

import (
	"context"
	"errors"
	"fmt"
	"net"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	restclient "k8s.io/client-go/rest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/liveapi/openapi"
	"github.com/nationtech/fleet/operator/roster"
)

// Options of a Server.
type Options struct {
	// Store that is served, and whether it is complete.
	Store *Store
	Ready func() bool
	// Roster and View are what FleetHealths are counted from, which there are none of
	// without them.
	Roster *roster.Roster
	View   *fleetview.View
	// Commander carries out the commands.
	Commander Commander
	// Listener to serve at, with TLS.
	Listener net.Listener
	// CertFile and KeyFile of the serving certificate; empty is one that is made for
	// this run, which the APIService then has to skip verifying.
	CertFile, KeyFile string
	// Kubeconfig reaches the API server that is asked who somebody is and what they
	// may do; empty is the one of the cluster that this runs in.
	Kubeconfig string
	// Trusting lets everybody do everything who reaches the listener. For tests.
	Trusting bool
}

// Server is the aggregated API server. It is a manager's Runnable.
type Server struct {
	generic  *genericapiserver.GenericAPIServer
	stopping chan struct{}
}

// NewServer makes a Server.
func NewServer(o Options) (*Server, error) {
	scheme := runtime.NewScheme()
	if err := live.AddToScheme(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, metav1.Unversioned)
	if err := errors.Join(
		selectBy(scheme, "Heartbeat", fieldDevice, fieldReady),
		selectBy(scheme, "Placement", fieldDevice, fieldDeployment, fieldPhase, fieldRevision, fieldReady),
		addOptions(scheme),
	); err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme)
	config := genericapiserver.NewConfig(codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	namer := openapinamer.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	for _, info := range []*string{&config.OpenAPIConfig.Info.Title, &config.OpenAPIV3Config.Info.Title} {
		*info = "fleet live"
	}
	config.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString("log", "exec"))
	if err := serve(config, o); err != nil {
		return nil, fmt.Errorf("serve the live API: %w", err)
	}
	generic, err := config.Complete(nil).New("fleet-live", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("make the live API: %w", err)
	}
	stopping := make(chan struct{})
	h := &storage[heartbeat]{kind: heartbeats, table: o.Store.heartbeats, mark: o.Store.mark, ready: o.Ready, stopping: stopping}
	p := &storage[placement]{kind: placements, table: o.Store.placements, mark: o.Store.mark, ready: o.Ready, stopping: stopping}
	c := &commands{heartbeats: h, placements: p, Commander: o.Commander, mayExec: mayExec(config.Authorization.Authorizer), stopping: stopping}
	resources := c.storage()
	resources[h.resource], resources[p.resource] = h, p
	if o.Roster != nil && o.View != nil {
		resources[fleetHealthResource] = &fleetHealths{devices: o.Roster, view: o.View, ready: o.Ready}
	}
	group := genericapiserver.NewDefaultAPIGroupInfo(live.GroupVersion.Group, scheme, runtime.NewParameterCodec(scheme), codecs)
	group.VersionedResourcesStorageMap[live.GroupVersion.Version] = resources
	if err := generic.InstallAPIGroup(&group); err != nil {
		return nil, fmt.Errorf("install the live API: %w", err)
	}
	return &Server{generic, stopping}, nil
}

// selectBy lets a kind be selected by fields; any other is refused with a message.
func selectBy(scheme *runtime.Scheme, kind string, fields ...string) error {
	return scheme.AddFieldLabelConversionFunc(live.GroupVersion.WithKind(kind), func(label, value string) (string, string, error) {
		for _, f := range append(fields, "metadata.name", "metadata.namespace") {
			if f == label {
				return label, value, nil
			}
		}
		return "", "", fmt.Errorf("field %q can't select a %s; these can: metadata.name, metadata.namespace, %v", label, kind, fields)
	})
}

// mayExec reports whether who asks may create placements/exec. The API server has asked
// only whether they may get it, since a WebSocket begins with a GET.
func mayExec(a authorizer.Authorizer) func(context.Context) error {
	return func(ctx context.Context) error {
		attributes, err := filters.GetAuthorizerAttributes(ctx)
		if err != nil {
			return err
		}
		create := authorizer.AttributesRecord{
			User: attributes.GetUser(), Verb: "create", ResourceRequest: true, Path: attributes.GetPath(),
			APIGroup: attributes.GetAPIGroup(), APIVersion: attributes.GetAPIVersion(), Resource: attributes.GetResource(),
			Subresource: attributes.GetSubresource(), Namespace: attributes.GetNamespace(), Name: attributes.GetName(),
		}
		decision, reason, err := a.Authorize(ctx, create)
		if decision == authorizer.DecisionAllow {
			return nil
		}
		if err != nil {
			reason = err.Error()
		}
		return responsewriters.ForbiddenStatusError(create, reason)
	}
}

func serve(config *genericapiserver.Config, o Options) error {
	serving := genericoptions.NewSecureServingOptions()
	serving.Listener = o.Listener
	serving.ServerCert.CertKey.CertFile, serving.ServerCert.CertKey.KeyFile = o.CertFile, o.KeyFile
	serving.ServerCert.CertDirectory = ""
	serving.MinTLSVersion = "VersionTLS13"
	if err := serving.MaybeDefaultWithSelfSignedCerts("localhost", []string{"fleet-operator.fleet-system.svc"}, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return err
	}
	if err := serving.WithLoopback().ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return err
	}
	if o.Trusting {
		config.Authentication.Authenticator = nil
		config.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
		return nil
	}
	authentication := genericoptions.NewDelegatingAuthenticationOptions()
	authentication.RemoteKubeConfigFile = o.Kubeconfig
	if err := authentication.ApplyTo(&config.Authentication, config.SecureServing, config.OpenAPIConfig); err != nil {
		return err
	}
	authorization := genericoptions.NewDelegatingAuthorizationOptions()
	authorization.RemoteKubeConfigFile = o.Kubeconfig
	return authorization.ApplyTo(&config.Authorization)
}

// Start serves until the context ends.
func (s *Server) Start(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { close(s.stopping) })()
	return s.generic.PrepareRun().RunWithContext(ctx)
}

// NeedLeaderElection says that every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// Loopback reaches the server with every right, from this process alone.
func (s *Server) Loopback() *restclient.Config { return s.generic.LoopbackClientConfig }
