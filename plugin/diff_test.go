package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// compared is a fleet repository whose revisions are compared.
type compared struct {
	*testing.T
	dir string
}

// newCompared has the overlay north: a Deployment of waves, what it refers to, a Secret,
// devices.
func newCompared(t *testing.T) compared {
	c := compared{t, t.TempDir()}
	c.git("init", "--quiet", "--initial-branch=main")
	c.write("overlays/north/kustomization.yaml", "resources: [web.yaml, settings.yaml, devices.yaml]\n")
	c.write("overlays/north/web.yaml", `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata: {name: web}
spec:
  targetSelector: {matchLabels: {run: "yes"}}
  rollout:
    waves:
    - {name: canary, selector: {matchLabels: {canary: "yes"}}, soak: 10m}
    - {name: most, limit: 50%, approval: Manual}
  score:
    podman:
      containers:
      - name: web
        image: example.org/web:1
        envFrom:
        - configMapRef: {name: settings}
`)
	c.write("overlays/north/settings.yaml", `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: red}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {KEY: hunter2, SAME: sesame}
`)
	c.devices(map[string]string{"d1": "yes"}, 6)
	c.commit("Begin")
	return c
}

// devices writes devices d1 to dN; canaries has those of them that are.
func (c compared) devices(canaries map[string]string, n int) {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		name := fmt.Sprint("d", i)
		canary := canaries[name]
		if canary == "" {
			canary = "no"
		}
		fmt.Fprintf(&b, "---\napiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: %s, labels: {run: \"yes\", canary: \"%s\"}}\nspec: {approved: true}\n", name, canary)
	}
	c.write("overlays/north/devices.yaml", b.String())
}

func (c compared) write(file, content string) {
	c.Helper()
	path := filepath.Join(c.dir, file)
	must(c.T, os.MkdirAll(filepath.Dir(path), 0o755))
	must(c.T, os.WriteFile(path, []byte(content), 0o644))
}

func (c compared) edit(file, before, after string) {
	c.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, file))
	must(c.T, err)
	if strings.Count(string(raw), before) != 1 {
		c.Fatalf("%q is not once in %s:\n%s", before, file, raw)
	}
	c.write(file, strings.Replace(string(raw), before, after, 1))
}

func (c compared) git(args ...string) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), "git", append([]string{"-C", c.dir, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (c compared) commit(message string) {
	c.Helper()
	c.git("add", "--all")
	c.git("commit", "--quiet", "--message", message)
}

// diff runs the command, and expects an exit code.
func (c compared) diff(code int, args ...string) (stdout, stderr string) {
	c.Helper()
	args = append([]string{"repo", "diff", "--repo", c.dir, "--cache-dir", filepath.Join(c.dir, ".git", "discovery")}, args...)
	out, errOut, got := command(c.T, c.Context(), args...)
	if got != code {
		c.Errorf("%v: exit code %d, want %d\n%s%s", args, got, code, out, errOut)
	}
	for _, text := range []string{out, errOut} {
		for _, value := range []string{"hunter", "aHVudGVy", "sesame", "c2VzYW1l"} {
			if strings.Contains(text, value) {
				c.Errorf("%v shows %q of a Secret:\n%s", args, value, text)
			}
		}
	}
	return out, errOut
}

// TestDiffOfTwoRevisions needs no cluster.
func TestDiffOfTwoRevisions(t *testing.T) {
	c := newCompared(t)
	c.edit("overlays/north/web.yaml", "web:1", "web:2")
	c.edit("overlays/north/settings.yaml", "KEY: hunter2", "KEY: hunter3")
	c.write("overlays/north/extra.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {note: \"```\"}\n")
	c.write("overlays/north/kustomization.yaml", "resources: [web.yaml, settings.yaml, devices.yaml, extra.yaml]\n")
	c.devices(map[string]string{"d1": "yes"}, 5)
	c.commit("Change")
	const nowhere = "--kubeconfig=/does/not/exist"

	for file, args := range map[string][]string{
		"repo-diff.txt": {"--rev", "HEAD~1..HEAD", nowhere}, "repo-diff.md": {"--rev", "HEAD~1..HEAD", "--markdown", nowhere},
		"repo-diff.json": {"north", "--rev", "HEAD~1..HEAD", "-o", "json", nowhere},
	} {
		out, errOut := c.diff(cli.CodeBad, args...)
		if errOut != "" || strings.Contains(out, "\x1b") {
			t.Errorf("stderr %q, or there is colour", errOut)
		}
		golden(t, file, out)
	}
	out, _ := c.diff(0, "--rev", "HEAD..", nowhere)
	if want := "HEAD → working tree: no difference\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	t.Run("an overlay that only one of the revisions has", func(t *testing.T) {
		c := compared{t, c.dir}
		c.write("overlays/south/kustomization.yaml", "resources: [m.yaml]\n")
		c.write("overlays/south/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n")
		for args, want := range map[string]string{"HEAD..": "+ ConfigMap m", "HEAD~1..": "overlay north"} {
			if out, _ := c.diff(cli.CodeBad, "--rev", args, nowhere); !strings.Contains(out, want) || !strings.Contains(out, "overlay south") {
				t.Errorf("%s: %q is not in\n%s", args, want, out)
			}
		}
		if out, _ := c.diff(cli.CodeBad, "south", "--rev", "HEAD..", nowhere); strings.Contains(out, "north") {
			t.Errorf("it is not of the one overlay alone:\n%s", out)
		}
	})
	t.Run("rollout settings reach no device", func(t *testing.T) {
		c := compared{t, c.dir}
		c.edit("overlays/north/web.yaml", "soak: 10m", "soak: 20m")
		out, _ := c.diff(cli.CodeBad, "north", "--rev", "HEAD..", nowhere)
		if !strings.HasSuffix(out, "0 objects added, 1 changed, 0 removed; no device changes\n") {
			t.Errorf("got\n%s", out)
		}
	})
	t.Run("many devices are collapsed", func(t *testing.T) {
		c := compared{t, c.dir}
		c.devices(nil, 40)
		some, _ := c.diff(cli.CodeBad, "north", "--rev", "HEAD..", nowhere)
		all, _ := c.diff(cli.CodeBad, "north", "--rev", "HEAD..", "--all", nowhere)
		if !strings.Contains(some, "devices: d10, d11, d12") || strings.Contains(some, "d39,") || !strings.Contains(all, "d39,") {
			t.Errorf("got\n%s\nand\n%s", some, all)
		}
	})
	t.Run("errors", func(t *testing.T) {
		c := compared{t, c.dir}
		c.git("checkout", "--quiet", "--", ".")
		c.write("overlays/north/web.yaml", "kind: [")
		for args, want := range map[string]string{
			"--rev HEAD..":                          "at working tree: overlay north: ",
			"north --rev no-such-branch..HEAD":      `no revision "no-such-branch"`,
			"north --rev HEAD..no-such-branch":      `no revision "no-such-branch"`,
			"no-such-overlay --rev HEAD..":          `no overlay "no-such-overlay"`,
			"--rev ..HEAD":                          "A..B",
			"--rev main...HEAD":                     "merge-base",
			"--rev HEAD.. --kustomization a/b":      "--kustomization",
			"--rev HEAD~1..HEAD -o json --markdown": "markdown",
			"--rev HEAD~1..HEAD -o yoml":            "yoml",
			"north --kubeconfig=/does/not/exist":    "/does/not/exist",
			"north south --rev HEAD~1..HEAD":        "arg",
		} {
			out, errOut := c.diff(cli.CodeError, strings.Fields(args)...)
			if out != "" || !strings.Contains(errOut, want) {
				t.Errorf("%s: %q is not in stderr %q; stdout %q", args, want, errOut, out)
			}
		}
	})
}

// TestDiffNamesTheRevisionThatIsBad has the older of two revisions not build.
func TestDiffNamesTheRevisionThatIsBad(t *testing.T) {
	c := newCompared(t)
	c.git("tag", "good")
	c.edit("overlays/north/web.yaml", "kind: Deployment", "kind: [")
	c.commit("Break it")
	c.git("tag", "broken")
	for _, rev := range []string{"broken..good", "good..broken"} {
		if _, errOut := c.diff(cli.CodeError, "--rev", rev, "--kubeconfig=/does/not/exist"); !strings.Contains(errOut, "at broken: overlay north: ") {
			t.Errorf("%s: %s", rev, errOut)
		}
	}
}

// kustomization makes Flux's object that applies the overlay north, with an inventory of
// what is in a namespace.
func (c compared) kustomization(ns string, inventory ...string) {
	c.Helper()
	spec := map[string]any{"interval": "10m", "prune": true, "path": "./overlays/north/", "targetNamespace": ns, "sourceRef": map[string]any{"kind": "GitRepository", "name": "fleet"}}
	k := &unstructured.Unstructured{Object: map[string]any{"apiVersion": kustomizev1.GroupVersion.String(), "kind": "Kustomization",
		"metadata": map[string]any{"namespace": ns + "-flux", "name": "north"}, "spec": spec}}
	must(c.T, shared.client.Create(c.Context(), k))
	c.Cleanup(func() { must(c.T, shared.client.Delete(context.WithoutCancel(c.Context()), k)) })
	entries := []any{}
	for _, id := range inventory {
		entries = append(entries, map[string]any{"id": ns + "_" + id, "v": "v1"})
	}
	k.Object["status"] = map[string]any{"inventory": map[string]any{"entries": entries}}
	must(c.T, shared.client.Status().Update(c.Context(), k))
}

// applyAll applies the overlay as Flux does, and has two devices not reachable.
func (c compared) applyAll(ns string) {
	c.Helper()
	out, errOut, code := command(c.T, c.Context(), "repo", "render", "north", "--repo", c.dir)
	if code != 0 {
		c.Fatal(errOut)
	}
	for _, doc := range strings.Split(out, "---\n") {
		apply(c.T, strings.Replace(doc, "metadata:\n", "metadata:\n  namespace: "+ns+"\n", 1))
	}
	devices := &v1alpha1.DeviceList{}
	must(c.T, shared.client.List(c.Context(), devices, client.InNamespace(ns)))
	for i := range devices.Items {
		d := &devices.Items[i]
		d.Status.Conditions = []metav1.Condition{condition("Ready", "True", v1alpha1.ReasonHeartbeat, "m", 0)}
		if d.Name >= "d5" {
			d.Status.Conditions = []metav1.Condition{condition("Ready", "False", v1alpha1.ReasonHeartbeatMissed, "m", 0)}
		}
		must(c.T, shared.client.Status().Update(c.Context(), d))
	}
	c.Cleanup(func() {
		must(c.T, shared.client.DeleteAllOf(context.WithoutCancel(c.Context()), &v1alpha1.Deployment{}, client.InNamespace(ns)))
	})
}

func TestDiffWithTheCluster(t *testing.T) {
	const ns = "diff"
	deviceNamespace(t, ns)
	namespace(t, ns+"-flux")
	c := newCompared(t)
	c.applyAll(ns)
	owner := "labels: {kustomize.toolkit.fluxcd.io/name: north, kustomize.toolkit.fluxcd.io/namespace: diff-flux}"
	for _, manifest := range []string{
		"metadata: {namespace: diff, name: gone, " + owner + "}\ndata: {a: b}",
		"metadata: {namespace: diff, name: kept, annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}, " + owner + "}",
		"metadata: {namespace: diff, name: others}",
	} {
		apply(t, "apiVersion: v1\nkind: ConfigMap\n"+manifest+"\n")
	}
	c.kustomization(ns, "gone__ConfigMap", "kept__ConfigMap", "others__ConfigMap", "never-there__ConfigMap", "settings__ConfigMap", "x_gone.example.org_Kind")

	out, errOut := c.diff(cli.CodeBad, "north")
	if !strings.Contains(out, "- ConfigMap diff/gone\n") || !strings.HasSuffix(out, "0 objects added, 0 changed, 1 removed; no device changes\n") || !strings.Contains(errOut, "leaves 2 objects") {
		t.Errorf("what is not changed:\n%s%s", out, errOut)
	}
	c.edit("overlays/north/web.yaml", "web:1", "web:2")
	c.edit("overlays/north/settings.yaml", "KEY: hunter2", "KEY: hunter3")
	c.devices(map[string]string{"d1": "yes", "d3": "yes"}, 7)
	out, _ = c.diff(cli.CodeBad, "north")
	golden(t, "repo-diff-live.txt", out)
	for _, name := range []string{"gone", "settings"} {
		must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &corev1.ConfigMap{}))
	}
	d := &v1alpha1.Deployment{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "web"}, d))
	if image := d.Spec.Score.Podman.Containers[0].Image; image != "example.org/web:1" || d.Generation != 1 {
		t.Errorf("the cluster was changed: image %s, generation %d", image, d.Generation)
	}

	t.Run("json has what the screen shows", func(t *testing.T) {
		out, _ := compared{t, c.dir}.diff(cli.CodeBad, "north", "-o", "json")
		var report struct {
			Kind, From, To          string
			Changed, Added, Devices int
			Overlays                []struct {
				Kustomization string
				Deployments   []struct {
					Name    string
					Waves   []struct{ Name string }
					Offline []string
				}
			}
		}
		must(t, json.Unmarshal([]byte(out), &report))
		o := report.Overlays[0]
		if report.Kind != "RepositoryDiff" || report.From != "cluster" || report.Devices != 7 || o.Kustomization != "diff-flux/north" || len(o.Deployments) != 1 || fmt.Sprint(o.Deployments[0].Offline) != "[d5 d6 d7]" {
			t.Errorf("got %s", out)
		}
	})
	t.Run("a revision is compared as it was", func(t *testing.T) {
		out, _ := compared{t, c.dir}.diff(cli.CodeBad, "north", "--rev", "HEAD")
		if !strings.HasSuffix(out, "cluster → HEAD: 0 objects added, 0 changed, 1 removed; no device changes\n") {
			t.Errorf("got\n%s", out)
		}
	})
	t.Run("what Flux leaves alone and what is encrypted", func(t *testing.T) {
		c := compared{t, c.dir}
		c.edit("overlays/north/settings.yaml", "metadata: {name: settings}", "metadata: {name: settings, annotations: {kustomize.toolkit.fluxcd.io/reconcile: disabled}}")
		c.edit("overlays/north/settings.yaml", "stringData: {KEY: hunter3, SAME: sesame}", "data: {KEY: 'ENC[AES256_GCM,data:x]'}\nsops: {mac: 'ENC[AES256_GCM,data:y]'}")
		c.edit("overlays/north/settings.yaml", "COLOR: red", "COLOR: blue")
		out, errOut := c.diff(cli.CodeBad, "north")
		for _, want := range []string{"Flux leaves ConfigMap diff/settings as it is", "Secret diff/keys is encrypted with SOPS"} {
			if !strings.Contains(errOut, want) {
				t.Errorf("%q is not in %s", want, errOut)
			}
		}
		if strings.Contains(out, "blue") || strings.Contains(out, "ENC[") || strings.Contains(out, "Secret") {
			t.Errorf("got\n%s", out)
		}
		c.git("checkout", "--quiet", "--", "overlays/north/settings.yaml")
	})
	t.Run("a kind that the cluster does not have fails alone", func(t *testing.T) {
		c := compared{t, c.dir}
		c.write("overlays/north/kustomization.yaml", "resources: [web.yaml, settings.yaml, devices.yaml, odd.yaml]\n")
		c.write("overlays/north/odd.yaml", "apiVersion: example.org/v1\nkind: Odd\nmetadata: {name: odd}\n")
		out, errOut := c.diff(cli.CodeError, "north")
		if !strings.Contains(out, "web:2") || !strings.Contains(errOut, "Odd diff/odd: the cluster does not have the kind Odd of example.org/v1") {
			t.Errorf("got\n%s%s", out, errOut)
		}
		c.write("overlays/north/kustomization.yaml", "resources: [web.yaml, settings.yaml, devices.yaml]\n")
	})
	t.Run("who may read and not write learns which permission is missing", func(t *testing.T) {
		nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
		read := []string{"get", "list"}
		grant(t, ns, rbacv1.PolicyRule{APIGroups: []string{"fleet.nationtech.io", ""}, Resources: []string{"devices", "deployments", "configmaps", "secrets"}, Verbs: read})
		grant(t, ns, rbacv1.PolicyRule{APIGroups: []string{"fleet.nationtech.io", ""}, Resources: []string{"devices", "configmaps", "secrets"}, Verbs: []string{"patch", "create"}})
		grant(t, ns+"-flux", rbacv1.PolicyRule{APIGroups: []string{kustomizev1.GroupVersion.Group}, Resources: []string{"kustomizations"}, Verbs: read})
		said(t, "auth can-i patch deployments.fleet.nationtech.io -n diff", func() string {
			_, errOut := compared{t, c.dir}.diff(cli.CodeError, "north", "--kustomization", ns+"-flux/north", "--kubeconfig", nobody)
			return errOut
		})
	})
}

// TestDiffWithoutKustomization compares with a cluster in which Flux does not know the
// overlay, and a namespace that is not there.
func TestDiffWithoutKustomization(t *testing.T) {
	c := newCompared(t)
	out, errOut := c.diff(cli.CodeBad, "north", "-n", "diff-not-there")
	for text, want := range map[string]string{out: "+ fleet Deployment diff-not-there/web\n", errOut: "no Kustomization of Flux in this cluster has the path overlays/north"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if !strings.Contains(errOut, "the namespace diff-not-there does not exist yet") || !strings.HasSuffix(out, "9 objects added, 0 changed, 0 removed; 6 devices change\n") {
		t.Errorf("got\n%s%s", out, errOut)
	}
	c.write("overlays/south/kustomization.yaml", "resources: [../north]\n")
	if _, errOut := c.diff(cli.CodeError); !strings.Contains(errOut, "which overlay? Flux applies none of them") {
		t.Errorf("got %s", errOut)
	}
}
