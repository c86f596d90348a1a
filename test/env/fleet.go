package env

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/pki"
	"github.com/nationtech/fleet/test/podmantest"
)

// Names of what is scaffolded.
const (
	// Namespace of the devices and their Deployments, and of those in the lab.
	Namespace    = "fleet-demo"
	LabNamespace = Namespace + "-lab"
	// RepositoryName names the Git repository and the Flux objects.
	RepositoryName = "shops"
	// Overlay is the folder that Flux applies.
	Overlay = "overlays/field"

	systemNamespace = "fleet-system"
)

// Fleet is everything between a Git repository and containers on devices.
type Fleet struct {
	Options
	ControlPlane *ControlPlane
	Operator     *Process
	// Standby is a second operator; nil where there is none.
	Standby    *Process
	Devices    []*Device
	Simulated  []*Simulated
	Machines   []*Machine
	Repository *Repository
	// Client may do everything; it exists after StartControlPlane.
	Client client.WithWatch
	// Rootful is why the podmans and agents of the devices are root's on this machine;
	// nil when each has a user without rights.
	Rootful error

	operatorHealth, operatorLive, operatorKubeconfig string
	addresses                                        *addresses
	hypervisor                                       *hypervisor
}

// New prepares the folders of a fleet and reserves the addresses of its devices,
// until Close. Nothing runs yet.
func New(o Options, ids ...string) (*Fleet, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	health, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	live, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	reserved, err := reserve(len(ids))
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		Options: o, ControlPlane: o.controlPlane(), operatorHealth: health, operatorLive: live, addresses: reserved,
		Repository: &Repository{Dir: filepath.Join(o.Dir, "repository")},
	}
	for n, id := range ids {
		device, err := o.newDevice(id, reserved.host(n), reserved.Hello)
		if err != nil {
			reserved.release()
			return nil, err
		}
		f.Devices = append(f.Devices, device)
	}
	return f, nil
}

// Signer is the public key that the operator signs with.
func (f *Fleet) Signer() (string, error) {
	keys, err := bus.ReadKeys(f.OperatorSeed())
	if err != nil {
		return "", err
	}
	return keys.Signer.PublicKey()
}

// StartControlPlane starts the control plane.
func (f *Fleet) StartControlPlane(ctx context.Context) error {
	if err := f.ControlPlane.Start(ctx); err != nil {
		return err
	}
	c, err := newClient(f.ControlPlane.Kubeconfig)
	if err != nil {
		return err
	}
	f.Client = c
	return nil
}

// InstallOperator applies the kinds and the rights from manifests, sets up keys and
// certificates as the Job there does, has the NATS server run with them, and starts the
// operator with no more rights than its own.
func (f *Fleet) InstallOperator(ctx context.Context, manifests string) error {
	for _, dir := range []string{"crd", "rbac", "setup"} {
		if err := applyDir(ctx, f.Client, filepath.Join(manifests, dir)); err != nil {
			return err
		}
	}
	live, err := f.registerLive(ctx, filepath.Join(manifests, "live", "apiservice.yaml"))
	if err != nil {
		return err
	}
	if err := f.setUp(ctx); err != nil {
		return err
	}
	if f.operatorKubeconfig, err = f.ControlPlane.ServiceAccountKubeconfig(ctx, systemNamespace, "fleet-operator"); err != nil {
		return err
	}
	f.Operator = f.newOperator("operator", f.operatorHealth, f.operatorLive, cmp.Or(f.MetricsAddr, "0"))
	if err := f.StartOperator(ctx); err != nil {
		return err
	}
	return f.awaitLive(ctx, live)
}

func (f *Fleet) newOperator(name, health, live, metrics string) *Process {
	lease := cmp.Or(f.Lease, 4*time.Second)
	return &Process{
		Name: "the " + name, Path: filepath.Join(f.Bin, "fleet-operator"), Log: filepath.Join(f.Dir, "logs", name+".log"),
		Args: []string{
			"run", "--nats-url", f.ControlPlane.NATS, "--nats-seed-file", f.OperatorSeed(), "--nats-ca-file", f.CAFile(),
			"--health-addr", health, "--metrics-addr", metrics, "--live-addr", live,
			"--live-cert-file", filepath.Join(f.liveDir(), pki.CertificateKey), "--live-key-file", filepath.Join(f.liveDir(), pki.PrivateKey),
			"--enable-leader-election=true", "--leader-election-lease-duration=" + lease.String(),
			"--leader-election-renew-deadline=" + (lease * 3 / 4).String(), "--leader-election-retry-period=" + (lease / 8).String(),
		},
		Env: []string{"KUBECONFIG=" + f.operatorKubeconfig, "RUNTIME_NAMESPACE=" + systemNamespace},
	}
}

// StartOperator starts the operator and waits until it is ready.
func (f *Fleet) StartOperator(ctx context.Context) error {
	return startOperator(ctx, f.Operator, f.operatorHealth)
}

// startOperator waits as long as an operator may take on a busy machine with a large fleet.
func startOperator(ctx context.Context, operator *Process, health string) error {
	if err := operator.Start(); err != nil {
		return err
	}
	return Until(ctx, 5*time.Minute, operator.Name+" ready", func(ctx context.Context) error {
		if !operator.Running() {
			return Permanent(operator.Failure())
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+health+"/readyz", nil)
		if err != nil {
			return Permanent(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %s; log: %s", response.Status, operator.Log)
		}
		return nil
	})
}

// StartStandby starts a second operator, which waits for the first one's Lease. Its live
// API is not registered.
func (f *Fleet) StartStandby(ctx context.Context) error {
	var addrs [2]string
	for i := range addrs {
		var err error
		if addrs[i], err = FreeAddr(); err != nil {
			return err
		}
	}
	f.Standby = f.newOperator("standby", addrs[0], addrs[1], "0")
	return startOperator(ctx, f.Standby, addrs[0])
}

// JoinDevices starts a podman for each device, has the device join with a token that is
// for all of its namespace, and starts its agent. Their Devices are in Git.
func (f *Fleet) JoinDevices(ctx context.Context) error {
	if err := Until(ctx, time.Minute, "Flux has made the Devices", func(ctx context.Context) error {
		for _, d := range f.Devices {
			if err := f.Client.Get(ctx, client.ObjectKey{Namespace: d.Namespace(), Name: d.ID}, &v1alpha1.Device{}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	uses, tokens := map[string]int{}, map[string]string{}
	for _, d := range f.Devices {
		uses[d.Namespace()]++
	}
	for namespace, n := range uses {
		token, err := f.Kubectl(ctx, "token", "create", "--namespace", namespace, "--uses", strconv.Itoa(n))
		if err != nil {
			return err
		}
		tokens[namespace] = strings.TrimSpace(token)
	}
	if err := f.PrepareDevices(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range f.Devices {
		group.Go(func() error {
			if err := d.join(ctx, f.ControlPlane.NATS, tokens[d.Namespace()]); err != nil {
				return err
			}
			return d.Agent.Start()
		})
	}
	return group.Wait()
}

// PrepareDevices starts a podman for each device and configures its agent, which has not
// joined then.
func (f *Fleet) PrepareDevices(ctx context.Context) error {
	if err := f.installAgent(); err != nil {
		return err
	}
	f.Rootful = podmantest.Rootless(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range f.Devices {
		group.Go(func() error {
			// libvirt refuses users whom the machine's list of users does not have, and those
			// of podmans without rights are made up.
			if err := d.startPodman(ctx, f.Rootful == nil && d.Pool == "", f.ControlPlane.Registry); err != nil {
				return err
			}
			return d.configure(f.hypervisor)
		})
	}
	return group.Wait()
}

// installAgent puts the agent's binary where each device's user can run it. They may pass
// through the fleet's folder, and see nothing in it but what is theirs.
func (f *Fleet) installAgent() error {
	binary, err := os.ReadFile(filepath.Join(f.Bin, "fleet-agent"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.agent(), binary, 0o755); err != nil {
		return err
	}
	return os.Chmod(f.Dir, 0o711)
}

// PushHello pushes a version of the workload to the registry and returns the
// image's reference.
func (f *Fleet) PushHello(ctx context.Context, version string) (string, error) {
	return f.ControlPlane.PushImage(ctx, filepath.Join(f.Bin, "hello"), "hello", version, "HELLO_VERSION="+version)
}

// Kubectl runs `kubectl fleet` against the control plane.
func (f *Fleet) Kubectl(ctx context.Context, args ...string) (string, error) {
	return f.KubectlAs(ctx, f.ControlPlane.Kubeconfig, append([]string{"fleet"}, args...)...)
}

// KubectlAs runs kubectl as somebody. The plugin is on its PATH.
func (f *Fleet) KubectlAs(ctx context.Context, kubeconfig string, args ...string) (string, error) {
	args = append([]string{"KUBECONFIG=" + kubeconfig, "PATH=" + f.Bin + ":" + os.Getenv("PATH"), filepath.Join(f.Bin, "kubectl")}, args...)
	return run(ctx, f.Dir, "/usr/bin/env", args...)
}

// Person makes somebody who has one of Kubernetes' own roles in the namespace of the
// devices, and returns their kubeconfig.
func (f *Fleet) Person(ctx context.Context, name, role string) (string, error) {
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if err := f.Client.Create(ctx, binding); err != nil {
		return "", err
	}
	return f.ControlPlane.UserKubeconfig(ctx, name)
}

// SparePort is one that is free on every device and that hello and signage leave
// alone.
func (f *Fleet) SparePort() int { return f.addresses.Spare }

// AllServe waits until every device serves the version of hello.
func (f *Fleet) AllServe(ctx context.Context, version string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range f.servers() {
		group.Go(func() error { return d.Serves(ctx, version) })
	}
	return group.Wait()
}

// Close stops everything and removes every container. The folder stays.
func (f *Fleet) Close() error {
	errs := make([]error, len(f.Devices))
	var group errgroup.Group
	for i, d := range f.Devices {
		group.Go(func() error {
			errs[i] = d.Close()
			return nil
		})
	}
	for _, s := range f.Simulated {
		if s.Device != nil {
			s.Stop()
		}
	}
	_ = group.Wait() // the errors are in errs
	if f.hypervisor != nil {
		errs = append(errs, f.hypervisor.close())
	}
	if f.Standby != nil {
		f.Standby.Stop(10 * time.Second)
	}
	if f.Operator != nil {
		f.Operator.Stop(10 * time.Second)
	}
	f.ControlPlane.Stop()
	f.addresses.release()
	return errors.Join(errs...)
}

// FreeAddr is a loopback address that nobody listens on. Its port is below those that the
// kernel gives to outgoing connections, of which one could take it meanwhile, and below those
// of test/controlplane.
func FreeAddr() (string, error) {
	const first, last, tries = 10_000, 16_000, 100
	var taken error
	for range tries {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.N(last-first)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		taken = err
	}
	return "", fmt.Errorf("no port is free from %d to %d: %w", first, last, taken)
}

func decodeYAML(raw []byte, into *unstructured.Unstructured) error {
	return yaml.Unmarshal(raw, &into.Object)
}
