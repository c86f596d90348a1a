package plane

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/nationtech/fleet/test/controlplane/internal/pki"
)

// Names of the components.
const (
	Etcd        = "etcd"
	APIServer   = "kube-apiserver"
	Controllers = "kube-controller-manager"
	Source      = "source-controller"
	Kustomize   = "kustomize-controller"
	NATS        = "nats"
	Git         = "git"
	Registry    = "registry"
)

// needs says what a component cannot work without; it is also the order in
// which they start, and, reversed, stop.
var needs = map[string][]string{
	Etcd:        nil,
	APIServer:   {Etcd},
	Controllers: {APIServer},
	Source:      {APIServer},
	Kustomize:   {APIServer},
	NATS:        nil,
	Git:         nil,
	Registry:    nil,
}

// groups are short names for --components.
var groups = map[string][]string{
	"all":        {Etcd, APIServer, Controllers, Source, Kustomize, NATS, Git, Registry},
	"kubernetes": {Etcd, APIServer, Controllers},
	"flux":       {Source, Kustomize},
}

// Select resolves what the user asked for into component names, adds what
// those need, and sorts the result.
func Select(asked []string) ([]string, error) {
	chosen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if members, ok := groups[name]; ok {
			for _, m := range members {
				if err := add(m); err != nil {
					return err
				}
			}
			return nil
		}
		more, ok := needs[name]
		if !ok {
			return fmt.Errorf("there is no component %q; there are %s, and the groups all, kubernetes and flux", name, strings.Join(sortedKeys(needs), ", "))
		}
		chosen[name] = true
		for _, n := range more {
			if err := add(n); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range asked {
		if err := add(strings.TrimSpace(name)); err != nil {
			return nil, err
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no component was asked for")
	}
	return sortedKeys(chosen), nil
}

// StopOrder sorts components into steps: what is in one step may stop at the
// same time, once everything that needs it has stopped.
func StopOrder(names []string) [][]string {
	var steps [][]string
	left := slices.Clone(names)
	for len(left) > 0 {
		var step, rest []string
		for _, n := range left {
			if slices.ContainsFunc(left, func(other string) bool { return slices.Contains(needs[other], n) }) {
				rest = append(rest, n)
			} else {
				step = append(step, n)
			}
		}
		steps, left = append(steps, step), rest
	}
	return steps
}

// Options change how components run.
type Options struct {
	// NATSConfig is the configuration file of nats-server; empty means plain
	// JetStream.
	NATSConfig string
	// Fsync makes etcd survive a power cut, at a cost; a killed process loses
	// nothing either way.
	Fsync bool
	// APIServerArgs come last, so that they win.
	APIServerArgs []string
}

// Process is a component that is a program.
type Process struct {
	Name   string
	Binary string
	Args   []string
	Env    []string
	// Port is the one that others use.
	Port int
	// Health is polled until it answers 200.
	Health string
	// Folders have to exist before it starts.
	Folders []string
}

// Processes returns how each program is run. It only computes.
func Processes(l Layout, o Options) []Process {
	return []Process{etcd(l, o), apiServer(l, o), controllers(l), source(l), kustomize(l), nats(l, o)}
}

func etcd(l Layout, o Options) Process {
	url := "http://" + l.addr(portEtcd)
	// The peer address is never used by a single member; port 0 would be
	// another at each start, but is only ever compared as text.
	const peer = "http://127.0.0.1:0"
	args := []string{
		"--data-dir=" + l.path("etcd"),
		"--listen-client-urls=" + url,
		"--advertise-client-urls=" + url,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--quota-backend-bytes=8589934592", // load tests go beyond the default 2 GiB
		"--log-level=warn",
	}
	if !o.Fsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return Process{Name: Etcd, Binary: "etcd", Args: args, Port: l.Ports[portEtcd], Health: url + "/readyz"}
}

func apiServer(l Layout, o Options) Process {
	p := l.PKI().Path
	args := []string{
		"--etcd-servers=http://" + l.addr(portEtcd),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", l.Ports[portAPIServer]),
		"--endpoint-reconciler-type=none", // a Service may not point at loopback
		"--service-cluster-ip-range=10.0.0.0/24",
		"--tls-cert-file=" + p(pki.Serving),
		"--tls-private-key-file=" + p(pki.ServingKey),
		"--client-ca-file=" + p(pki.CA),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + p(pki.ServiceAccountKey),
		"--service-account-key-file=" + p(pki.ServiceAccountPub),
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		// For aggregated APIs: the API server passes on who the user is, and
		// they trust it by these. Routing by endpoints stays off, because the
		// Service of an API on loopback is an ExternalName to localhost.
		"--requestheader-client-ca-file=" + p(pki.FrontProxyCA),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-uid-headers=X-Remote-Uid",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p(pki.FrontProxyClient),
		"--proxy-client-key-file=" + p("front-proxy-client.key"),
	}
	return Process{
		Name: APIServer, Binary: "kube-apiserver", Args: append(args, o.APIServerArgs...),
		Port: l.Ports[portAPIServer], Health: l.APIServer() + "/readyz",
	}
}

// enabledControllers are those that tests miss when they do not run: without
// them namespaces stay Terminating, owned objects are not collected, and
// aggregated ClusterRoles stay empty.
var enabledControllers = []string{
	"namespace-controller",
	"garbage-collector-controller",
	"serviceaccount-controller",
	"root-ca-certificate-publisher-controller",
	"clusterrole-aggregation-controller",
}

func controllers(l Layout) Process {
	p := l.PKI().Path
	return Process{
		Name: Controllers, Binary: "kube-controller-manager",
		Args: []string{
			"--kubeconfig=" + l.path("kube-controller-manager.kubeconfig"),
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", l.Ports[portControllers]),
			"--tls-cert-file=" + p(pki.Serving),
			"--tls-private-key-file=" + p(pki.ServingKey),
			"--leader-elect=false",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + p(pki.ServiceAccountKey),
			"--root-ca-file=" + p(pki.CA),
			"--controllers=" + strings.Join(enabledControllers, ","),
		},
		Port:   l.Ports[portControllers],
		Health: "https://" + l.addr(portControllers) + "/healthz",
	}
}

// fluxArgs are common to both controllers: many workers and short retries,
// because a test waits for each of them.
func fluxArgs(l Layout, health, metrics string) []string {
	return []string{
		"--watch-all-namespaces",
		"--enable-leader-election=false",
		"--health-addr=" + l.addr(health),
		"--metrics-addr=" + l.addr(metrics),
		"--concurrent=10",
		"--requeue-dependency=1s",
		"--min-retry-delay=100ms",
		"--max-retry-delay=10s",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

// fluxEnv gives each controller folders of its own: kustomize-controller
// empties its TMPDIR at start.
func fluxEnv(l Layout, name string) (env, folders []string) {
	home, tmp := l.path(name), l.path(name, "tmp")
	return []string{
		"KUBECONFIG=" + l.Kubeconfig(),
		"RUNTIME_NAMESPACE=" + FluxNamespace,
		"HOME=" + home,
		"TMPDIR=" + tmp,
		"TUF_ROOT=" + filepath.Join(home, "tuf"),
	}, []string{home, tmp}
}

func source(l Layout) Process {
	env, folders := fluxEnv(l, Source)
	storage := l.path(Source, "storage")
	return Process{
		Name: Source, Binary: "source-controller",
		Args: append(fluxArgs(l, portSourceHealth, portSourceMetrics),
			"--storage-path="+storage,
			"--storage-addr="+l.addr(portSource),
			"--storage-adv-addr="+l.addr(portSource),
		),
		Env: env, Folders: append(folders, storage), Port: l.Ports[portSource],
		Health: "http://" + l.addr(portSourceHealth) + "/readyz",
	}
}

func kustomize(l Layout) Process {
	env, folders := fluxEnv(l, Kustomize)
	return Process{
		Name: Kustomize, Binary: "kustomize-controller",
		// As Flux is locked down where teams share a cluster: what names no service
		// account has no rights, and nothing is taken from another namespace.
		// https://fluxcd.io/flux/installation/configuration/multitenancy/
		Args: append(fluxArgs(l, portKustomizeHealth, portKustomizeMetrics),
			"--default-service-account=default",
			"--no-cross-namespace-refs=true",
			"--no-remote-bases=true",
		),
		Env: env, Folders: folders, Port: l.Ports[portKustomizeHealth],
		Health: "http://" + l.addr(portKustomizeHealth) + "/readyz",
	}
}

func nats(l Layout, o Options) Process {
	args := []string{
		"-a", "127.0.0.1",
		"-p", fmt.Sprint(l.Ports[portNATS]),
		"-m", fmt.Sprint(l.Ports[portNATSMonitor]),
		"--profile", fmt.Sprint(l.Ports[portNATSProfile]),
		"-sd", l.path("nats"),
		"-P", l.path("nats.pid"),
		"-l", l.Log(NATS),
	}
	if o.NATSConfig != "" {
		args = append([]string{"-c", o.NATSConfig}, args...)
	} else {
		args = append([]string{"-js"}, args...)
	}
	return Process{
		Name: NATS, Binary: "nats-server", Args: args, Port: l.Ports[portNATS],
		Health: "http://" + l.addr(portNATSMonitor) + "/healthz",
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
