package gitops_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// How large the repository is that the speed is measured on.
const (
	overlays       = 20
	devicesEach    = 50 // 1,000 in all
	deploymentsOwn = 2  // of each overlay, and
	deploymentsAll = 3  // from the base: 100 in all
)

// allowed is how many times what kustomize alone takes validating may take.
const allowed = 2.0

// TestValidateTakesAtMostTwiceWhatKustomizeTakes builds every overlay with kubectl
// kustomize, a command for each as there is no other, and validates the whole with one,
// which builds them too. Beside it stands what kustomize takes as a library that need not
// start: what validating can't go below.
func TestValidateTakesAtMostTwiceWhatKustomizeTakes(t *testing.T) {
	kubectl, plugin := program(t, "kubectl"), program(t, "kubectl-fleet")
	dir := largeRepository(t)
	each := func(do func(overlay string)) time.Duration {
		began := time.Now()
		for i := range overlays {
			do(fmt.Sprintf("overlays/site-%02d", i))
		}
		return time.Since(began)
	}
	alone := each(func(overlay string) {
		must(t, dir, nil, kubectl, "kustomize", "--load-restrictor=LoadRestrictionsNone", overlay)
	})
	library := each(func(overlay string) { build(t, filepath.Join(dir, overlay)) })
	began := time.Now()
	report := must(t, dir, nil, plugin, "repo", "validate")
	ours := time.Since(began)
	if want := "20 overlays of the working tree (1000 devices, 100 deployments): 0 errors, 0 warnings"; !strings.Contains(report, want) {
		t.Errorf("%q is not in:\n%s", want, report)
	}
	ratio := ours.Seconds() / alone.Seconds()
	t.Logf("1,000 devices and 100 deployments in 20 overlays: kubectl kustomize %.2f s, the library %.2f s, kubectl fleet repo validate %.2f s: %.2f times the command, %.2f times the library",
		alone.Seconds(), library.Seconds(), ours.Seconds(), ratio, ours.Seconds()/library.Seconds())
	if ratio > allowed {
		t.Errorf("validating takes %.2f times what kustomize takes; %.1f is allowed", ratio, allowed)
	}
}

// build is what kustomize build does.
func build(t *testing.T, dir string) {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resources.AsYaml(); err != nil {
		t.Fatal(err)
	}
}

func largeRepository(t *testing.T) string {
	t.Helper()
	dir := scaffold(t)
	if err := os.RemoveAll(filepath.Join(dir, "overlays")); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var base []string
	for i := range deploymentsAll {
		write(fmt.Sprintf("base/common-%d.yaml", i), deploymentText(fmt.Sprintf("common-%d", i)))
		base = append(base, fmt.Sprintf("common-%d.yaml", i))
	}
	write("base/kustomization.yaml", "resources: ["+strings.Join(base, ", ")+"]\ncomponents: [../components/fleet]\nconfigMapGenerator:\n- name: greeting\n  literals: [GREETING=Hello]\n")
	for i := range overlays {
		folder := fmt.Sprintf("overlays/site-%02d/", i)
		var devices strings.Builder
		for j := range devicesEach {
			fmt.Fprintf(&devices, "---\napiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata:\n  name: site-%02d-till-%03d\n  labels:\n    fleet: shops\n    place: %q\nspec:\n  approved: true\n", i, j, fmt.Sprint(j%5))
		}
		write(folder+"devices.yaml", devices.String())
		resources := []string{"devices.yaml", "../../base"}
		for j := range deploymentsOwn {
			name := fmt.Sprintf("own-%d.yaml", j)
			write(folder+name, deploymentText(fmt.Sprintf("own-%d", j)))
			resources = append(resources, name)
		}
		write(folder+"kustomization.yaml", fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: site-%02d
resources: [%s]
components: [../../components/fleet]
transformers: [../../components/fleet/tidy.yaml]
images:
- name: hello
  newName: registry.example.com/hello
  newTag: v%d
patches:
- patch: |
    apiVersion: fleet.nationtech.io/v1alpha1
    kind: Deployment
    metadata: {name: common-0}
    spec: {score: {podman: {containers: [{name: main, env: [{name: SITE, value: "%d"}]}]}}}
`, i, strings.Join(resources, ", "), i, i))
	}
	return dir
}

func deploymentText(name string) string {
	return `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: ` + name + `
spec:
  targetSelector:
    matchLabels: {fleet: shops}
  rollout:
    maxUnavailable: 10%
    waves:
    - name: canary
      selector:
        matchLabels: {place: "0"}
      soak: 10m
  score:
    podman:
      containers:
      - name: main
        image: hello
        env:
        - {name: PORT, value: "8080"}
        - name: DEVICE
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: GREETING
          valueFrom: {configMapKeyRef: {name: greeting, key: GREETING}}
        readinessProbe:
          httpGet: {path: /, port: 8080}
`
}
