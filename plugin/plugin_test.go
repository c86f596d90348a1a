package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/manifests"
	"github.com/nationtech/fleet/plugin/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cluster is a real API server that the tests share, each with a namespace.
type cluster struct {
	client     client.WithWatch
	kubeconfig string
	live       *liveAPI
	// now is the clock of the commands: everything was made 26 hours ago.
	now time.Time
}

var shared cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return fail(fmt.Errorf("KUBEBUILDER_ASSETS is not set: these tests need a real kube-apiserver; run `make test`"))
	}
	crds, err := manifests.CRDs()
	if err != nil {
		return fail(err)
	}
	api := &envtest.Environment{CRDs: append(crds, fluxKinds()...)}
	// Also after a start that failed halfway.
	defer func() {
		if err := api.Stop(); err != nil {
			fail(err)
		}
	}()
	config, err := api.Start()
	if err != nil {
		return fail(err)
	}
	user, err := api.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, config)
	if err != nil {
		return fail(err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return fail(err)
	}
	nobody, err := api.AddUser(envtest.User{Name: "nobody"}, config)
	if err != nil {
		return fail(err)
	}
	nobodys, err := nobody.KubeConfig()
	if err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "fleet-plugin-test-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	shared.kubeconfig = filepath.Join(dir, "kubeconfig")
	for name, data := range map[string][]byte{"kubeconfig": kubeconfig, "nobody": nobodys} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fail(err)
		}
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, live.AddToScheme} {
		if err := add(scheme); err != nil {
			return fail(err)
		}
	}
	if shared.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fail(err)
	}
	shared.now = time.Now().Add(26 * time.Hour)
	if shared.live, err = startLive(context.Background(), shared.client); err != nil {
		return fail(err)
	}
	defer func() { shared.live.stop() }()
	return m.Run()
}

// fluxKinds are Flux's, open for every field.
func fluxKinds() []*apiextensionsv1.CustomResourceDefinition {
	open := true
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, k := range []struct{ group, kind, plural string }{
		{"kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations"},
		{"source.toolkit.fluxcd.io", "GitRepository", "gitrepositories"},
	} {
		crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: k.plural + "." + k.group}}
		crd.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
			Group: k.group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: k.kind, Plural: k.plural, Singular: strings.ToLower(k.kind), ListKind: k.kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &open}},
			}},
		}
		out = append(out, crd)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// namespace makes an empty one.
func namespace(t *testing.T, name string) string {
	t.Helper()
	must(t, shared.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	return name
}

// ago is a time before the commands' present.
func ago(d time.Duration) metav1.Time { return metav1.NewTime(shared.now.Add(-d)).Rfc3339Copy() }

func condition(kind string, status metav1.ConditionStatus, reason, message string, since time.Duration) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: ago(since)}
}

// device makes a Device with a status.
func device(t *testing.T, ns, name string, spec v1alpha1.DeviceSpec, status v1alpha1.DeviceStatus) {
	t.Helper()
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"site": name[:1]}}, Spec: spec}
	must(t, shared.client.Create(t.Context(), d))
	d.Status = status
	d.Status.ObservedGeneration = 1
	must(t, shared.client.Status().Update(t.Context(), d))
}

func readyDevice(t *testing.T, ns, name string) {
	t.Helper()
	at := ago(5 * time.Minute)
	device(t, ns, name, v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{
		Conditions:        []metav1.Condition{condition("Ready", "True", v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s", 5*time.Hour)},
		Info:              &v1alpha1.DeviceInfo{OS: "Debian 12", Arch: "arm64", Kernel: "6.1.0", AgentVersion: "v0.1.0", Addresses: []string{"10.0.0.7"}},
		LastHeartbeatTime: &at, Deployments: &v1alpha1.DeviceDeployments{Total: 2, Running: 2},
	})
}

// deployment makes a Deployment with a status.
func deployment(t *testing.T, ns, name string, change func(*v1alpha1.Deployment)) {
	t.Helper()
	labels := map[string]string{"kustomize.toolkit.fluxcd.io/name": "field", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels}, Spec: v1alpha1.DeploymentSpec{
		TargetSelector: metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Score:          v1alpha1.Score{Podman: &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "app", Image: "example.org/app:1"}}}},
	}}
	full := d.DeepCopy()
	change(full)
	d.Spec = full.Spec
	must(t, shared.client.Create(t.Context(), d))
	d.Status = full.Status
	d.Status.ObservedGeneration = 1
	must(t, shared.client.Status().Update(t.Context(), d))
}

func completeStatus(name string, n int32) v1alpha1.DeploymentStatus {
	return v1alpha1.DeploymentStatus{
		Conditions:      []metav1.Condition{condition("Ready", "True", v1alpha1.ReasonRolloutComplete, fmt.Sprintf("%d of %d devices run it", n, n), 3*time.Hour)},
		CurrentRevision: name + "-7c5xfcb6c5", UpdateRevision: name + "-7c5xfcb6c5", Progress: fmt.Sprintf("%d/%d", n, n),
		Aggregate: &v1alpha1.Aggregate{Matched: n, Updated: n, Succeeded: n},
		Wave:      &v1alpha1.WaveStatus{Name: "all", Index: 1, Of: 1, Phase: v1alpha1.WaveComplete, Since: ago(3 * time.Hour)},
		Source:    &v1alpha1.Source{Kustomization: "flux-system/field", Revision: "main@sha1:4ddd4d9abc", Commit: "4ddd4d9abc"},
	}
}

// command runs a command line and returns what it printed, and its exit code.
func command(t *testing.T, ctx context.Context, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
	env.Now = func() time.Time { return shared.now }
	env.Getenv = func(string) string { return "" }
	if args[0] != "__complete" && !strings.Contains(strings.Join(args, " "), "--kubeconfig") {
		args = append(args, "--kubeconfig", shared.kubeconfig)
	}
	code = execute(ctx, args, env)
	return out.String(), errOut.String(), code
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs (go test ./plugin -update writes it anew); got:\n%s\nwant:\n%s", path, got, want)
	}
}

// somebodysKey is a device's public key.
const somebodysKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

// TestScreens holds whole screens to golden files.
func TestScreens(t *testing.T) {
	well := namespace(t, "well")
	for i := range 12 {
		readyDevice(t, well, fmt.Sprintf("a%02d", i))
	}
	deployment(t, well, "hello", func(d *v1alpha1.Deployment) { d.Status = completeStatus("hello", 12) })
	deployment(t, well, "signage", func(d *v1alpha1.Deployment) { d.Status = completeStatus("signage", 4) })

	ill := namespace(t, "ill")
	readyDevice(t, ill, "a-ready")
	gone := ago(50 * time.Minute)
	device(t, ill, "b-gone", v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{LastHeartbeatTime: &gone, Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonHeartbeatMissed, "Three heartbeats in a row, one each 30s, did not arrive", 49*time.Minute)}})
	device(t, ill, "c-new", v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonNeverSeen, "The device has never sent a heartbeat", time.Hour)}})
	device(t, ill, "d-unapproved", v1alpha1.DeviceSpec{PublicKey: somebodysKey}, v1alpha1.DeviceStatus{LastHeartbeatTime: &gone, Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonNotApproved, "Nobody has approved the device yet: kubectl fleet approve d-unapproved -n ill", time.Hour)}})
	device(t, ill, "g-shut-out", v1alpha1.DeviceSpec{Approved: new(false), PublicKey: somebodysKey}, v1alpha1.DeviceStatus{LastHeartbeatTime: &gone, Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonShutOut, "spec.approved is false: the device may not connect", time.Hour)}})
	device(t, ill, "e-second", v1alpha1.DeviceSpec{Approved: new(true)}, v1alpha1.DeviceStatus{Conditions: []metav1.Condition{
		condition("Ready", "False", v1alpha1.ReasonDuplicateID, "Device well/e-second is older and has this ID; delete one of them or give it another name", time.Hour)}})
	device(t, ill, "f-cordoned", v1alpha1.DeviceSpec{Approved: new(true), Cordoned: true}, v1alpha1.DeviceStatus{LastHeartbeatTime: &gone, Conditions: []metav1.Condition{
		condition("Ready", "True", v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s", time.Hour)}})
	deployment(t, ill, "broken", func(d *v1alpha1.Deployment) {
		d.Status = completeStatus("broken", 6)
		d.Status.UpdateRevision, d.Status.Progress = "broken-x4vc44zvb4", "3/6"
		d.Status.Aggregate = &v1alpha1.Aggregate{Matched: 6, Updated: 5, Succeeded: 3, Failed: 2, Offline: 1}
		const message = "3 of 6 devices run it, 2 failed, 1 offline; a-ready: ImagePullFailed: manifest unknown"
		d.Status.Conditions = []metav1.Condition{
			condition("Ready", "False", v1alpha1.ReasonDevicesFailed, message, 20*time.Minute), condition("Stalled", "True", v1alpha1.ReasonDevicesFailed, message, 20*time.Minute)}
		d.Status.Wave.Phase, d.Status.Wave.Since = v1alpha1.WaveStalled, ago(20*time.Minute)
		d.Status.Failures = []v1alpha1.Failure{
			{Device: "a-ready", Reason: "ImagePullFailed", Message: "pull example.org/app:2: manifest unknown"}, {Device: "b-gone", Reason: "PortInUse", Message: "port 8080 is taken"}}
	})
	deployment(t, ill, "moving", func(d *v1alpha1.Deployment) {
		d.Status = completeStatus("moving", 6)
		d.Status.UpdateRevision, d.Status.Progress = "moving-6448bw46v2", "2/6"
		d.Status.Aggregate = &v1alpha1.Aggregate{Matched: 6, Updated: 4, Succeeded: 2, Pending: 3, Offline: 1}
		d.Status.Conditions = []metav1.Condition{
			condition("Ready", "False", v1alpha1.ReasonProgressing, "2 of 6 devices run it, 3 pending, 1 offline", 2*time.Minute),
			condition("Reconciling", "True", v1alpha1.ReasonProgressing, "The rollout goes on", 2*time.Minute)}
		d.Status.Wave.Phase, d.Status.Wave.Since = v1alpha1.WaveProgressing, ago(2*time.Minute)
	})
	deployment(t, ill, "paused", func(d *v1alpha1.Deployment) {
		d.Spec.Paused = true
		d.Status = completeStatus("paused", 6)
		d.Status.Conditions = []metav1.Condition{condition("Ready", "False", v1alpha1.ReasonPaused, "Paused: 2 of 6 devices run it", time.Hour)}
	})
	namespace(t, "empty")
	flux(t)

	for _, c := range []struct {
		file string
		code int
		args string
	}{
		{"status-well.txt", 0, "status -n well"},
		{"status-well-all.txt", 0, "status -n well --all --exit-code"},
		{"status-ill.txt", 0, "status -n ill"},
		{"status-everywhere.txt", 1, "status -A --exit-code"},
		{"status-empty.txt", 0, "status -n empty"},
		{"status-wide.txt", 0, "status -n ill -o wide"},
		{"status-names.txt", 0, "status -n ill -o name"},
		{"status-selected.txt", 0, "status -n ill -l site=b"},
		{"status-jsonpath.txt", 0, "status -n ill -l site=b -o jsonpath={.selector}{.devices.total}"},
		{"devices-ill.txt", 0, "devices -n ill"},
		{"devices-wide.txt", 0, "devices -n ill -o wide"},
		{"devices-everywhere.txt", 0, "devices -A --health not-ready,duplicate"},
		{"devices-selected.txt", 0, "devices -n ill -l site=a"},
		{"devices-one.txt", 0, "devices b-gone -n ill"},
		{"devices-names.txt", 0, "devices -n ill -o name"},
		{"devices-jsonpath.txt", 0, "devices -n ill -o jsonpath={.items[*].metadata.name}"},
		{"rollout-complete.txt", 0, "rollout status hello -n well"},
		{"rollout-stalled.txt", 1, "rollout status broken -n ill"},
		{"rollout-moving.txt", 2, "rollout status deployment/moving -n ill"},
		{"rollout-paused.txt", 2, "rollout status paused -n ill"},
		{"rollout-wide.txt", 1, "rollout status broken -n ill -o wide"},
		{"rollout-name.txt", 0, "rollout status hello -n well -o name"},
	} {
		t.Run(c.file, func(t *testing.T) {
			out, errOut, code := command(t, t.Context(), strings.Fields(c.args)...)
			if code != c.code || errOut != "" {
				t.Errorf("exit code %d, want %d; stderr %q", code, c.code, errOut)
			}
			if strings.Contains(out, "\x1b") {
				t.Error("there is colour, and this is no terminal")
			}
			golden(t, c.file, out)
		})
	}

	t.Run("json of status is what the screen shows", func(t *testing.T) {
		out, _, code := command(t, t.Context(), "status", "-n", "ill", "-o", "json")
		var report struct {
			Healthy  bool
			Devices  struct{ Total, Ready, NotReady, NeverSeen, Pending, ShutOut, Duplicate, Cordoned int }
			Problems []struct{ Kind, Name, Reason string }
		}
		must(t, json.Unmarshal([]byte(out), &report))
		d := report.Devices
		if code != 0 || report.Healthy || d.Total != 7 || d.Ready != 2 || d.NotReady != 1 || d.NeverSeen != 1 || d.Pending != 1 || d.ShutOut != 1 || d.Duplicate != 1 || d.Cordoned != 1 {
			t.Errorf("exit code %d, report %+v", code, report)
		}
	})
	t.Run("watch of a rollout ends with it", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		done := make(chan string, 1)
		go func() {
			out, errOut, code := command(t, ctx, "rollout", "status", "moving", "-n", "ill", "--watch")
			done <- fmt.Sprint(code, " ", out, errOut)
		}()
		d := &v1alpha1.Deployment{}
		must(t, shared.client.Get(ctx, client.ObjectKey{Namespace: "ill", Name: "moving"}, d))
		generation := d.Status.ObservedGeneration
		d.Status = completeStatus("moving", 6)
		d.Status.ObservedGeneration = generation
		must(t, shared.client.Status().Update(ctx, d))
		if got := <-done; !strings.HasPrefix(got, "0 ") || !strings.Contains(got, "6 of 6") {
			t.Errorf("it ended with %s", got)
		}
	})
	t.Run("watch of devices and of status go on until interrupted", func(t *testing.T) {
		for _, args := range [][]string{{"devices", "-n", "well", "--watch"}, {"status", "-n", "well", "--watch"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			out, errOut, code := command(t, ctx, args...)
			cancel()
			if code != cli.CodeError && code != cli.CodeInterrupted || !strings.Contains(out, "a0") && !strings.Contains(out, "hello") {
				t.Errorf("%v: exit code %d\n%s%s", args, code, out, errOut)
			}
		}
	})
}

// flux makes what Flux would have: a repository and a Kustomization.
func flux(t *testing.T) {
	t.Helper()
	namespace(t, "flux-system")
	ready := []any{map[string]any{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "ok", "lastTransitionTime": ago(time.Hour).UTC().Format(time.RFC3339)}}
	for _, o := range []map[string]any{
		{"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": map[string]any{"namespace": "flux-system", "name": "fleet"},
			"spec": map[string]any{"url": "https://git.example.com/fleet.git", "interval": "1m", "ref": map[string]any{"branch": "main"}},
			"status": map[string]any{"observedGeneration": int64(1), "conditions": ready, "artifact": map[string]any{
				"revision": "main@sha1:4ddd4d9abc", "path": "p", "url": "http://x", "digest": "sha256:0", "lastUpdateTime": ago(2 * time.Hour).UTC().Format(time.RFC3339)}}},
		{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": map[string]any{"namespace": "flux-system", "name": "field"},
			"spec":   map[string]any{"interval": "10m", "prune": true, "path": "./overlays/field", "sourceRef": map[string]any{"kind": "GitRepository", "name": "fleet"}},
			"status": map[string]any{"observedGeneration": int64(1), "conditions": ready, "lastAppliedRevision": "main@sha1:4ddd4d9abc", "lastAttemptedRevision": "main@sha1:4ddd4d9abc"}},
	} {
		u := &unstructured.Unstructured{Object: o}
		status := o["status"]
		must(t, shared.client.Create(t.Context(), u))
		u.Object["status"] = status
		must(t, shared.client.Status().Update(t.Context(), u))
	}
}

// TestErrorsSayWhatToDo has every error on stderr, with its exit code, and nothing
// on stdout.
func TestErrorsSayWhatToDo(t *testing.T) {
	nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"devices no-such-device -n default", []string{"no-such-device", "not found"}},
		{"rollout status no-such-deployment -n default", []string{"no-such-deployment", "not found"}},
		{"rollout status service/x -n default", []string{"service/x", "not a Deployment"}},
		{"rollout status", []string{"NAME"}},
		{"rollout status x --timeout 5s", []string{"--watch"}},
		{"devices --health poorly", []string{"--health poorly", "never-seen"}},
		{"devices -o yoml", []string{"yoml"}},
		{"devices a -l x=y", []string{"not both"}},
		{"status --no-such-flag", []string{"--no-such-flag"}},
		{"status -l site==in(", []string{"--selector", "site==in("}},
		{"status -o yoml", []string{"yoml", "wide", "name", "jsonpath"}},
		{"repo validate -o wide", []string{"wide", "json"}},
		{"statos", []string{"statos"}},
		{"status --kubeconfig /does/not/exist", []string{"/does/not/exist", "No cluster is configured"}},
		{"status -n default --kubeconfig " + nobody, []string{"forbidden"}},
		{"devices -n default --kubeconfig " + nobody, []string{"forbidden"}},
	} {
		out, errOut, code := command(t, t.Context(), strings.Fields(c.args)...)
		if code != cli.CodeError || out != "" || !strings.HasPrefix(errOut, "error: ") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(errOut, want) {
				t.Errorf("%s: %q is not in %q", c.args, want, errOut)
			}
		}
	}
}

func TestFolderThatIsNotThereIsNoMissingCluster(t *testing.T) {
	for _, args := range []string{"repo validate /no/such/dir", "repo validate /no/such/dir --rev main", "repo render --repo /no/such/dir"} {
		_, errOut, code := command(t, t.Context(), strings.Fields(args)...)
		if want := "error: there is no folder /no/such/dir\n"; code != cli.CodeError || errOut != want {
			t.Errorf("%s: exit code %d, stderr %q, want %q", args, code, errOut, want)
		}
	}
}

func TestCompletion(t *testing.T) {
	ns := namespace(t, "completion")
	readyDevice(t, ns, "pi-7")
	deployment(t, ns, "telemetry", func(d *v1alpha1.Deployment) { d.Status = completeStatus("telemetry", 1) })
	for args, want := range map[string]string{
		"__complete devices -n completion --kubeconfig " + shared.kubeconfig + " ":        "pi-7",
		"__complete rollout status -n completion --kubeconfig " + shared.kubeconfig + " ": "telemetry",
		"__complete status --kubeconfig " + shared.kubeconfig + " -n com":                 "completion",
		"__complete status -o ":           "wide",
		"__complete rollout status x -o ": "name",
		"__complete devices --health ":    "shut-out",
		"__complete stat":                 "status",
	} {
		list := strings.Split(args, " ")
		out, errOut, code := command(t, t.Context(), list...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d\n%s%s", args, code, out, errOut)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, _, code := command(t, t.Context(), "completion", shell)
		if code != 0 || len(out) < 500 {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
}
