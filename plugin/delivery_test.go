package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// git runs git as nobody in particular, at a time that is always the same.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("git", args...)
	c.Dir = dir
	at := ago(3 * time.Hour).UTC().Format(time.RFC3339)
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_DATE="+at, "GIT_COMMITTER_DATE="+at,
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// carried is a fleet's namespace with what Flux has for it, and a clone of its repository
// that has been pushed.
type carried struct {
	*testing.T
	ns, dir, url string
	// before and commit are the two commits that there are.
	before, commit string
}

func newCarried(t *testing.T, name string) *carried {
	t.Helper()
	c := &carried{T: t, ns: namespace(t, name), dir: t.TempDir(), url: "https://git.example.com/" + name + ".git"}
	t.Cleanup(c.remove)
	git(t, c.dir, "init", "-q", "-b", "main")
	git(t, c.dir, "remote", "add", "origin", c.url)
	git(t, c.dir, "commit", "-q", "--allow-empty", "-m", "Begin")
	c.before = git(t, c.dir, "rev-parse", "HEAD")
	git(t, c.dir, "commit", "-q", "--allow-empty", "-m", "Roll out v2")
	c.commit = git(t, c.dir, "rev-parse", "HEAD")
	c.pushed(c.commit)
	c.create("source.toolkit.fluxcd.io/v1", "GitRepository", "shops", map[string]any{"url": c.url, "interval": "1m", "ref": map[string]any{"branch": "main"}})
	c.create("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field", map[string]any{
		"interval": "10m", "prune": true, "path": "./overlays/field", "sourceRef": map[string]any{"kind": "GitRepository", "name": "shops"},
	})
	deployment(t, c.ns, "hello", func(d *v1alpha1.Deployment) {
		d.Status = completeStatus("hello", 3)
		d.Status.Source = &v1alpha1.Source{Kustomization: c.ns + "/shops-field", Revision: c.revision(c.before), Commit: c.before}
	})
	d := &v1alpha1.Deployment{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: c.ns, Name: "hello"}, d))
	d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "shops-field", "kustomize.toolkit.fluxcd.io/namespace": c.ns}
	must(t, shared.client.Update(t.Context(), d))
	c.fetched(c.before)
	c.applied(c.before)
	c.rolled(c.before, func(*v1alpha1.DeploymentStatus) {})
	return c
}

// remove takes away what other tests would see that look at all namespaces.
func (c *carried) remove() {
	for _, kind := range [][2]string{
		{"source.toolkit.fluxcd.io/v1", "GitRepository"}, {"kustomize.toolkit.fluxcd.io/v1", "Kustomization"},
		{v1alpha1.GroupVersion.String(), v1alpha1.DeploymentKind}, {v1alpha1.GroupVersion.String(), v1alpha1.DeviceKind},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": kind[0], "kind": kind[1]}}
		must(c.T, shared.client.DeleteAllOf(context.Background(), o, client.InNamespace(c.ns)))
	}
}

// pushed has the clone know that the remote's branch is at a commit.
func (c *carried) pushed(commit string) {
	git(c.T, c.dir, "update-ref", "refs/remotes/origin/main", commit)
}

func (c *carried) revision(commit string) string { return "main@sha1:" + commit }

func (c *carried) create(version, kind, name string, spec map[string]any) {
	c.Helper()
	must(c.T, shared.client.Create(c.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"namespace": c.ns, "name": name}, "spec": spec,
	}}))
}

func (c *carried) object(version, kind, name string) *unstructured.Unstructured {
	c.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind}}
	must(c.T, shared.client.Get(c.Context(), client.ObjectKey{Namespace: c.ns, Name: name}, o))
	return o
}

// status does what Flux's controllers do.
func (c *carried) status(version, kind, name, ready, reason, message string, status map[string]any) {
	c.Helper()
	o := c.object(version, kind, name)
	written := o.DeepCopy()
	status["observedGeneration"] = o.GetGeneration()
	if at := o.GetAnnotations()["reconcile.fluxcd.io/requestedAt"]; at != "" {
		status["lastHandledReconcileAt"] = at
	}
	status["conditions"] = []any{map[string]any{"type": "Ready", "status": ready, "reason": reason, "message": message, "lastTransitionTime": ago(2 * time.Hour).UTC().Format(time.RFC3339)}}
	o.Object["status"] = status
	must(c.T, shared.client.Status().Patch(c.Context(), o, client.MergeFrom(written)))
}

func (c *carried) fetched(commit string) {
	c.Helper()
	c.status("source.toolkit.fluxcd.io/v1", "GitRepository", "shops", "True", "Succeeded", "stored artifact for revision "+c.revision(commit), map[string]any{
		"artifact": map[string]any{"revision": c.revision(commit), "path": "p", "url": "http://x", "digest": "sha256:0", "lastUpdateTime": ago(2*time.Hour + 50*time.Minute).UTC().Format(time.RFC3339)},
	})
}

func (c *carried) applied(commit string) {
	c.Helper()
	at := ago(2*time.Hour + 49*time.Minute).UTC().Format(time.RFC3339)
	c.status("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field", "True", "ReconciliationSucceeded", "Applied revision: "+c.revision(commit), map[string]any{
		"lastAppliedRevision": c.revision(commit), "lastAttemptedRevision": c.revision(commit),
		"history": []any{map[string]any{
			"digest": "sha256:1", "firstReconciled": at, "lastReconciled": at, "lastReconciledDuration": "1s", "lastReconciledStatus": "ReconciliationSucceeded",
			"totalReconciliations": int64(1), "metadata": map[string]any{"revision": c.revision(commit)},
		}},
	})
}

// rolled is what the operator makes of a commit.
func (c *carried) rolled(commit string, change func(*v1alpha1.DeploymentStatus)) {
	c.Helper()
	d := &v1alpha1.Deployment{}
	must(c.T, shared.client.Get(c.Context(), client.ObjectKey{Namespace: c.ns, Name: "hello"}, d))
	d.Status.ObservedGeneration = d.Generation
	d.Status.Source = &v1alpha1.Source{Kustomization: c.ns + "/shops-field", Revision: c.revision(commit), Commit: commit}
	change(&d.Status)
	must(c.T, shared.client.Status().Update(c.Context(), d))
}

// ended is a command that has come to its end.
type ended struct {
	out, errOut string
	code        int
}

// wait begins to wait for the commit.
func (c *carried) wait(args ...string) <-chan ended {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	c.Cleanup(cancel)
	done := make(chan ended, 1)
	go func() {
		var e ended
		e.out, e.errOut, e.code = command(c.T, ctx, append([]string{"wait", "--repo", c.dir, "-n", c.ns}, args...)...)
		done <- e
	}()
	return done
}

// until waits for what a command does meanwhile.
func (c *carried) until(what string, done func() bool) {
	c.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			c.Fatal(what, ": not within 30 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// asked waits until Flux was asked to fetch.
func (c *carried) asked() {
	c.Helper()
	c.until("Flux is asked to fetch", func() bool {
		return c.object("source.toolkit.fluxcd.io/v1", "GitRepository", "shops").GetAnnotations()["reconcile.fluxcd.io/requestedAt"] != ""
	})
}

func failing(reason string) func(*v1alpha1.DeploymentStatus) {
	return func(s *v1alpha1.DeploymentStatus) {
		s.Conditions = []metav1.Condition{condition("Ready", "False", reason, "1 failed", time.Minute), condition("Stalled", "True", reason, "1 failed", time.Minute)}
		s.Wave = &v1alpha1.WaveStatus{Name: "all", Index: 1, Of: 1, Phase: v1alpha1.WaveHalted, Since: ago(time.Minute)}
		s.Failures = []v1alpha1.Failure{{Device: "shop-2", Reason: "ImagePullFailed", Message: "pull example.org/app:2: manifest unknown"}}
		s.Aggregate = &v1alpha1.Aggregate{Matched: 3, Updated: 1, Failed: 1, Pending: 2}
	}
}

func TestWaitFollowsACommit(t *testing.T) {
	c := newCarried(t, "waits")
	done := c.wait("-o", "json")
	c.asked()
	c.fetched(c.commit)
	c.applied(c.commit)
	c.rolled(c.commit, func(s *v1alpha1.DeploymentStatus) {})
	e := <-done
	if e.code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", e.code, e.errOut)
	}
	for _, want := range []string{
		"GitRepository waits/shops: is asked to fetch", "GitRepository waits/shops: fetched " + c.commit[:7], "Kustomization waits/shops-field: applied " + c.commit[:7],
		"Deployment waits/hello: runs on 3 devices", c.commit[:7] + " runs on every reachable device of 1 Deployment",
	} {
		if !strings.Contains(e.errOut, want) {
			t.Errorf("it does not say %q:\n%s", want, e.errOut)
		}
	}
	var d struct {
		Commit struct{ Hash, Subject, Author string }
		State  string
		Hops   []struct{ Kind, State string }
	}
	must(t, json.Unmarshal([]byte(e.out), &d))
	if d.Commit.Hash != c.commit || d.Commit.Subject != "Roll out v2" || d.Commit.Author != "Ada" || d.State != "Done" || len(d.Hops) != 3 {
		t.Errorf("%+v", d)
	}
	// What has arrived is not waited for, and neither is what a later commit contains.
	for _, args := range [][]string{{}, {"--commit", c.before}, {"--commit", "HEAD~1", "--kustomization", "shops-field"}} {
		if e := <-c.wait(args...); e.code != cli.CodeOK {
			t.Errorf("%v: exit code %d\n%s", args, e.code, e.errOut)
		}
	}
}

func TestWaitEndsWhenSomethingFails(t *testing.T) {
	c := newCarried(t, "wait-fails")
	for _, s := range []struct {
		name   string
		change func()
		args   []string
		code   int
		want   []string
	}{
		{"the commit was not pushed", func() { c.pushed(c.before) }, nil, cli.CodeBad, []string{"not on branch main of origin", "git push"}},
		{"nothing comes", func() { c.pushed(c.commit) }, []string{"--timeout", "1s", "--reconcile=false"}, cli.CodeUnfinished, []string{"has not arrived within 1s", "has " + c.before[:7] + " of main"}},
		{"the repository can't be fetched", func() {
			c.status("source.toolkit.fluxcd.io/v1", "GitRepository", "shops", "False", "GitOperationFailed", "authentication required", map[string]any{})
		}, []string{"--reconcile=false"}, cli.CodeBad, []string{"GitRepository wait-fails/shops: GitOperationFailed: authentication required"}},
		{"the overlay can't be built", func() {
			c.fetched(c.commit)
			c.status("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field", "False", "BuildFailed", "no such file or directory", map[string]any{"lastAttemptedRevision": c.revision(c.commit)})
		}, nil, cli.CodeBad, []string{"Kustomization wait-fails/shops-field: BuildFailed: no such file"}},
		{"a device fails", func() {
			c.applied(c.commit)
			c.rolled(c.commit, failing(v1alpha1.ReasonDevicesFailed))
		}, nil, cli.CodeBad, []string{"Deployment wait-fails/hello: DevicesFailed", "device shop-2: ImagePullFailed: pull example.org/app:2: manifest unknown", "> Push a fix"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			s.change()
			e := <-c.wait(s.args...)
			if e.code != s.code || e.out != "" {
				t.Errorf("exit code %d, want %d, stdout %q", e.code, s.code, e.out)
			}
			for _, want := range s.want {
				if !strings.Contains(e.errOut, want) {
					t.Errorf("it does not say %q:\n%s", want, e.errOut)
				}
			}
		})
	}
}

func TestWaitSaysWhatItCantFollow(t *testing.T) {
	c := newCarried(t, "wait-where")
	stranger, empty := t.TempDir(), t.TempDir()
	git(t, stranger, "init", "-q", "-b", "main")
	git(t, stranger, "remote", "add", "origin", "https://git.example.com/elsewhere.git")
	git(t, empty, "init", "-q", "-b", "main")
	for _, s := range []struct {
		args string
		want []string
	}{
		{"--repo " + t.TempDir(), []string{"not in a Git repository", "--commit"}},
		{"--repo " + empty, []string{"no commit yet"}},
		{"--repo " + c.dir + " --commit v9", []string{`no revision "v9"`}},
		{"--repo " + stranger + " --commit " + c.commit, []string{"no Kustomization of Flux applies this repository", "elsewhere.git", c.url}},
		{"--repo " + c.dir + " --kustomization lab", []string{"no Kustomization lab"}},
		{"--repo " + c.dir + " --timeout -1s", []string{"--timeout"}},
		{"--repo " + c.dir + " -o yoml", []string{"yoml", "json"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, errOut, code := command(t, ctx, append(strings.Fields("wait "+s.args), "-n", c.ns)...)
		cancel()
		if code != cli.CodeError || out != "" {
			t.Errorf("%s: exit code %d, stdout %q", s.args, code, out)
		}
		for _, want := range s.want {
			if !strings.Contains(errOut, want) {
				t.Errorf("%s: it does not say %q:\n%s", s.args, want, errOut)
			}
		}
	}
	// Outside of a clone a whole hash will do.
	if _, errOut, code := command(t, t.Context(), "wait", "--repo", t.TempDir(), "--commit", c.before, "-n", c.ns, "--timeout", "20s"); code != cli.CodeOK {
		t.Errorf("without a clone: exit code %d\n%s", code, errOut)
	}
}

// constant replaces what differs from run to run.
func (c *carried) constant(text string) string {
	for _, r := range []struct{ of, by string }{{c.commit, "COMMIT"}, {c.commit[:7], "COMMIT7"}, {c.before, "BEFORE"}, {c.before[:7], "BEFORE7"}} {
		text = strings.ReplaceAll(text, r.of, r.by)
	}
	return regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(text, "TIME")
}

func TestTraceAndLog(t *testing.T) {
	c := newCarried(t, "traced")
	d := &v1alpha1.Deployment{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: c.ns, Name: "hello"}, d))
	for i, r := range []struct{ hash, commit, image string }{{"aaaa", c.before, "example.org/app:1"}, {"bbbb", c.commit, "example.org/app:2"}} {
		score := fmt.Sprintf(`{"score":{"podman":{"containers":[{"name":"app","image":%q}]}}}`, r.image)
		since := shared.now.Add(-3*time.Hour + time.Duration(12+i)*time.Minute)
		revision := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: c.ns, Name: "hello-" + r.hash, Labels: map[string]string{"fleet.nationtech.io/deployment": "hello"},
				Annotations:     map[string]string{"fleet.nationtech.io/commit": r.commit, "fleet.nationtech.io/since": since.UTC().Format(time.RFC3339Nano)},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, v1alpha1.GroupVersion.WithKind("Deployment"))},
			},
			Revision: int64(i + 1), Data: runtime.RawExtension{Raw: []byte(score)},
		}
		if r.commit == c.before {
			revision.Annotations["fleet.nationtech.io/completed"] = since.Add(42 * time.Second).UTC().Format(time.RFC3339Nano)
		}
		must(t, shared.client.Create(t.Context(), revision))
	}
	c.fetched(c.commit)
	c.applied(c.commit)
	c.rolled(c.commit, func(s *v1alpha1.DeploymentStatus) { s.CurrentRevision, s.UpdateRevision = "hello-aaaa", "hello-bbbb" })
	for i, revision := range []string{"hello-bbbb", "hello-aaaa"} {
		device := fmt.Sprintf("traced-%d", i+1)
		readyDevice(t, c.ns, device)
		shared.live.device(c.ns, device, beat(time.Second))
		shared.live.placement(device, "hello", placed(revision, 2*time.Hour))
	}
	for _, s := range []struct{ file, args string }{
		{"trace-device.txt", "trace traced-1"},
		{"trace-deployment.txt", "trace deployment/hello"},
		{"trace-without-clone.txt", "trace hello --repo " + t.TempDir()},
		{"log.txt", "log"},
		{"log-wide.txt", "log hello -o wide"},
		{"log-jsonpath.txt", "log -o jsonpath={.entries[*].runsOn[0]}"},
	} {
		t.Run(s.file, func(t *testing.T) {
			args := append(strings.Fields(s.args), "-n", c.ns)
			if !strings.Contains(s.args, "--repo") {
				args = append(args, "--repo", c.dir)
			}
			out, errOut, code := command(t, t.Context(), args...)
			if code != cli.CodeOK || errOut != "" {
				t.Errorf("exit code %d, stderr %q", code, errOut)
			}
			golden(t, s.file, c.constant(out))
		})
	}
	for _, s := range []struct{ args, want string }{
		{"trace nothing", "neither a Device nor a Deployment"},
		{"trace service/x", "neither a Device nor a Deployment"},
		{"trace device/nothing", "nothing"},
		{"log nothing", "nothing"},
		{"log --limit -1", "--limit"},
	} {
		if _, errOut, code := command(t, t.Context(), append(strings.Fields(s.args), "-n", c.ns)...); code != cli.CodeError || !strings.Contains(errOut, s.want) {
			t.Errorf("%s: exit code %d, %s", s.args, code, errOut)
		}
	}
}

func TestReconcileSuspendAndResume(t *testing.T) {
	c := newCarried(t, "reconciled")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(args ...string) <-chan ended {
		done := make(chan ended, 1)
		go func() {
			var e ended
			e.out, e.errOut, e.code = command(t, ctx, append(args, "-n", c.ns)...)
			done <- e
		}()
		return done
	}
	done := run("reconcile", "kustomization", "shops-field", "--with-source")
	c.asked()
	c.fetched(c.commit)
	c.until("the Kustomization is asked", func() bool {
		return c.object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field").GetAnnotations()["reconcile.fluxcd.io/requestedAt"] != ""
	})
	c.status("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field", "False", "BuildFailed", "no such file", map[string]any{})
	if e := <-done; e.code != cli.CodeBad || !strings.Contains(e.errOut, "BuildFailed: no such file") || !strings.Contains(e.errOut, "GitRepository reconciled/shops: stored artifact") {
		t.Errorf("of one that fails: exit code %d\n%s", e.code, e.errOut)
	}
	c.applied(c.commit)

	e := <-run("suspend", "kustomization/shops-field", "gitrepository/shops")
	if e.code != cli.CodeOK || e.out != "gitrepository.source.toolkit.fluxcd.io/shops suspended\nkustomization.kustomize.toolkit.fluxcd.io/shops-field suspended\n" {
		t.Errorf("exit code %d, %q %s", e.code, e.out, e.errOut)
	}
	if e := <-run("suspend", "ks", "shops-field"); e.code != cli.CodeOK || !strings.Contains(e.out, "already suspended") {
		t.Errorf("again: exit code %d, %q %s", e.code, e.out, e.errOut)
	}
	if e := <-run("reconcile", "ks", "shops-field"); e.code != cli.CodeBad || !strings.Contains(e.errOut, "kubectl fleet resume kustomization shops-field -n reconciled") {
		t.Errorf("of one that is suspended: exit code %d, %s", e.code, e.errOut)
	}
	done = run("resume", "ks", "shops-field")
	c.until("it is resumed", func() bool {
		suspended, _, _ := unstructured.NestedBool(c.object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "shops-field").Object, "spec", "suspend")
		return !suspended
	})
	c.applied(c.commit)
	if e := <-done; e.code != cli.CodeOK || !strings.Contains(e.out, "shops-field resumed") {
		t.Errorf("exit code %d, %q %s", e.code, e.out, e.errOut)
	}
	for _, s := range []struct{ args, want string }{
		{"reconcile", "KIND NAME"}, {"reconcile kustomization", "the name of a Kustomization is missing"}, {"suspend pod/x", `"pod" is not a kind`},
		{"resume kustomization shops-field deployment/hello", "not both"}, {"reconcile deployment/hello --with-source", "has no source"}, {"suspend ks nothing", "not found"},
	} {
		if e := <-run(strings.Fields(s.args)...); e.code != cli.CodeError || !strings.Contains(e.errOut, s.want) {
			t.Errorf("%s: exit code %d, %s", s.args, e.code, e.errOut)
		}
	}
}
