package gitops_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// TestPreCommitHookChecksWhatIsStaged commits with git, and the hook of the scaffold
// runs kubectl and the plugin.
func TestPreCommitHookChecksWhatIsStaged(t *testing.T) {
	program(t, "kubectl")
	dir := scaffold(t)
	commit := func(args ...string) (string, error) {
		t.Helper()
		return run(t.Context(), t, dir, nil, "git", append([]string{"commit", "--message=change"}, args...)...)
	}
	if out, err := commit(); err != nil || !strings.Contains(out, "2 overlays of the index") {
		t.Fatalf("the scaffold can't be committed: %v\n%s", err, out)
	}
	// A mistake that is not staged is not about to be committed.
	edit(t, dir, "base/hello.yaml", "containerPort: 8080", "containerPort: eighty")
	must(t, dir, nil, "git", "commit", "--quiet", "--allow-empty", "--message=nothing")
	if out, err := commit("--all"); err == nil || !strings.Contains(out, "base/hello.yaml:") || !strings.Contains(out, "containerPort") {
		t.Errorf("git commit --all of a mistake: %v\n%s", err, out)
	}
	if out, err := commit("base/hello.yaml"); err == nil || !strings.Contains(out, "containerPort") {
		t.Errorf("git commit of the file of a mistake: %v\n%s", err, out)
	}
	must(t, dir, nil, "git", "add", ".")
	// What is repaired only on disk is committed broken.
	edit(t, dir, "base/hello.yaml", "containerPort: eighty", "containerPort: 8080")
	if out, err := commit(); err == nil || !strings.Contains(out, "containerPort") {
		t.Errorf("git commit of a mistake that is staged: %v\n%s", err, out)
	}
	if out, err := commit("--no-verify"); err != nil {
		t.Errorf("git commit --no-verify: %v\n%s", err, out)
	}
	// In a linked working tree, whose index is elsewhere.
	linked := filepath.Join(t.TempDir(), "linked")
	must(t, dir, nil, "git", "worktree", "add", "--quiet", linked)
	edit(t, linked, "base/hello.yaml", "containerPort: eighty", "containerPort: ninety")
	if out, err := run(t.Context(), t, linked, nil, "git", "commit", "--all", "--message=change"); err == nil || !strings.Contains(out, "containerPort") {
		t.Errorf("git commit in a linked working tree: %v\n%s", err, out)
	}
	edit(t, linked, "base/hello.yaml", "containerPort: ninety", "containerPort: 8080")
	if out, err := run(t.Context(), t, linked, nil, "git", "commit", "--all", "--message=change"); err != nil || !strings.Contains(out, "0 errors") {
		t.Errorf("git commit of the repair in a linked working tree: %v\n%s", err, out)
	}
}

// TestPostReceiveHookAsksFluxToFetch pushes to a bare repository that has the scaffold's
// hook, which asks a real API server.
func TestPostReceiveHookAsksFluxToFetch(t *testing.T) {
	kubectl := program(t, "kubectl")
	api := &envtest.Environment{CRDs: []*apiextensionsv1.CustomResourceDefinition{gitRepositoryKind()}}
	config, err := api.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Stop(); err != nil {
			t.Error(err)
		}
	})
	user, err := api.AddUser(envtest.User{Name: "hook", Groups: []string{"system:masters"}}, config)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"KUBECONFIG=" + kubeconfig}

	dir := scaffold(t)
	must(t, dir, nil, "git", "commit", "--quiet", "--no-verify", "--message=begin")
	bare := filepath.Join(t.TempDir(), "shops.git")
	must(t, dir, nil, "git", "clone", "--quiet", "--bare", ".", bare)
	must(t, dir, nil, "cp", "hooks/post-receive", filepath.Join(bare, "hooks"))
	must(t, dir, nil, "git", "remote", "add", "origin", bare)
	requested := func() string {
		t.Helper()
		return must(t, dir, env, kubectl, "get", "gitrepository", "shops", "-n", "retail", "-o", `jsonpath={.metadata.annotations.reconcile\.fluxcd\.io/requestedAt}`)
	}
	push := func(branch string) string {
		t.Helper()
		must(t, dir, nil, "git", "commit", "--quiet", "--no-verify", "--allow-empty", "--message=change")
		return must(t, dir, env, "git", "push", "origin", "HEAD:"+branch)
	}

	if out := push("main"); !strings.Contains(out, "remote:") {
		t.Errorf("nobody is told that Flux could not be asked:\n%s", out)
	}
	must(t, dir, env, kubectl, "create", "namespace", "retail")
	object := filepath.Join(t.TempDir(), "repository.yaml")
	if err := os.WriteFile(object, []byte("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: shops, namespace: retail}\nspec: {interval: 1m, url: https://git.example.com/shops.git}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, dir, env, kubectl, "apply", "-f", object)
	if got := requested(); got != "" {
		t.Fatalf("before the push there is %q", got)
	}
	push("main")
	first, commit := requested(), strings.TrimSpace(must(t, dir, nil, "git", "rev-parse", "HEAD"))
	if !strings.HasSuffix(first, "Z-"+commit) {
		t.Errorf("after the push of %s there is %q", commit, first)
	}
	push("other")
	if got := requested(); got != first {
		t.Errorf("a push to another branch asks: %q", got)
	}
	push("main")
	if got := requested(); got == first {
		t.Errorf("the second push does not ask: %q", got)
	}
}

// gitRepositoryKind is Flux's, open for every field.
func gitRepositoryKind() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gitrepositories.source.toolkit.fluxcd.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "source.toolkit.fluxcd.io", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "GitRepository", Plural: "gitrepositories", Singular: "gitrepository", ListKind: "GitRepositoryList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
			}},
		},
	}
}
