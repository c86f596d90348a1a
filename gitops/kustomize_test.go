package gitops_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"

	"github.com/nationtech/fleet/gitops"
)

var update = flag.Bool("update", false, "write the golden files anew")

// base is what every case below changes.
const base = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: web
spec:
  targetSelector:
    matchLabels:
      site: shop
  score:
    podman:
      initContainers:
      - name: prepare
        image: tools
        envFrom:
        - configMapRef:
            name: settings
      containers:
      - name: web
        image: hello
        ports:
        - containerPort: 8080
          hostPort: 8080
        env:
        - name: COLOUR
          value: blue
        - name: GREETING
          valueFrom:
            configMapKeyRef:
              name: settings
              key: GREETING
        volumeMounts:
        - name: config
          mountPath: /etc/web
      - name: sidecar
        image: registry.example.com/tools/proxy:1
      volumes:
      - name: config
        configMap:
          name: settings
---
apiVersion: fleet.nationtech.io/v1alpha1
kind: Device
metadata:
  name: shop-1
  labels:
    site: shop
spec:
  approved: true
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: hello
        env:
        - name: COLOUR
          value: blue
`

// transformations are what a kustomization may say, and the field that validate
// refuses then; empty when the result is right. Beside our Deployment stands one
// of Kubernetes', to which the same happens as always.
var transformations = []struct{ name, kustomization, refused string }{
	{"nothing", ``, ""},
	{"images", `
images:
- name: hello
  newName: registry.example.com/hello
  newTag: v2
- name: tools
  digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
- name: registry.example.com/tools/proxy
  newTag: "2"
`, ""},
	{"namePrefix and nameSuffix", "\nnamePrefix: red-\nnameSuffix: -a\n", ""},
	{"namespace", "\nnamespace: shops\n", ""},
	{"labels without selectors", "\nlabels:\n- pairs: {team: retail}\n", ""},
	{"labels with selectors", "\nlabels:\n- pairs: {team: retail}\n  includeSelectors: true\n", ""},
	{"labels with templates", "\nlabels:\n- pairs: {team: retail}\n  includeTemplates: true\n", ""},
	{"commonAnnotations", "\ncommonAnnotations: {owner: retail}\n", ""},
	{"commonLabels", "\ncommonLabels: {team: retail}\n", ""},
	{"replicas", "\nreplicas:\n- name: web\n  count: 3\n", "spec.replicas"},
	{"generated ConfigMap", `
configMapGenerator:
- name: settings
  behavior: replace
  literals: [GREETING=Good morning]
generatorOptions:
  disableNameSuffixHash: false
`, ""},
	{"strategic merge of containers by name", `
patches:
- target: {group: fleet.nationtech.io, kind: Deployment}
  patch: |
    apiVersion: fleet.nationtech.io/v1alpha1
    kind: Deployment
    metadata:
      name: web
    spec:
      rollout:
        maxUnavailable: 10%
      score:
        podman:
          containers:
          - name: web
            env:
            - name: COLOUR
              value: red
            - name: SIZE
              value: large
            ports:
            - containerPort: 9090
              hostPort: 9090
          - name: extra
            image: extra:1
          - name: sidecar
            $patch: delete
`, ""},
	{"JSON patch of a container", `
patches:
- target: {group: fleet.nationtech.io, kind: Deployment}
  patch: |
    - op: replace
      path: /spec/score/podman/containers/0/image
      value: registry.example.com/other:1
    - op: add
      path: /spec/score/podman/containers/0/env/-
      value: {name: SIZE, value: large}
    - op: remove
      path: /spec/score/podman/initContainers
`, ""},
	{"replacements", `
replacements:
- source: {kind: Device, name: shop-1, fieldPath: metadata.name}
  targets:
  - select: {group: fleet.nationtech.io, kind: Deployment}
    fieldPaths: ["spec.score.podman.containers.[name=web].env.[name=COLOUR].value"]
`, ""},
}

// repository writes a fleet repository with the scaffold's component, the base and
// one overlay.
func repository(t *testing.T, kustomization string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "components/fleet/kustomization.yaml", "")
	if _, err := gitops.UpdateComponent(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "base/kustomization.yaml", `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [base.yaml]
components: [../components/fleet]
configMapGenerator:
- name: settings
  literals: [GREETING=Hello]
generatorOptions:
  disableNameSuffixHash: true
`)
	write(t, dir, "base/base.yaml", base)
	write(t, dir, "overlays/site/kustomization.yaml", `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../base]
components: [../../components/fleet]
transformers: [../../components/fleet/tidy.yaml]
`+strings.TrimPrefix(kustomization, "\n"))
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) (*gitops.Tree, []gitops.Overlay) {
	t.Helper()
	tree, err := gitops.OpenWorkingTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	overlays, err := tree.Overlays()
	if err != nil {
		t.Fatal(err)
	}
	return tree, overlays
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".yaml")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./gitops -update writes it anew); got:\n%s", path, got)
	}
}

// flux builds as Flux's kustomize-controller does, with kustomize itself and
// nothing of ours.
func flux(t *testing.T, dir string) []byte {
	t.Helper()
	openapi.ResetOpenAPI()
	defer openapi.ResetOpenAPI()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(dir, "overlays", "site"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKustomizeDoesToOurDeploymentWhatItsUserExpects(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range transformations {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, c.kustomization)
			tree, overlays := open(t, dir)
			rendered, err := gitops.Render(tree, overlays[0])
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for i, o := range rendered.Objects {
				if i > 0 {
					got = append(got, "---\n"...)
				}
				got = append(got, o.YAML()...)
			}
			if want := flux(t, dir); !bytes.Equal(got, want) {
				t.Errorf("Flux would apply something else:\n%s\nwe render:\n%s", want, got)
			}
			golden(t, filepath.Join("kustomize", c.name), got)

			report := gitops.Validate(tree, overlays, schemas)
			var refused []string
			for _, f := range report.Findings {
				if f.Severity == gitops.Error {
					refused = append(refused, f.Field)
					if f.Hint == "" || f.Object == "" {
						t.Errorf("a finding without a hint or an object: %+v", f)
					}
				}
			}
			switch {
			case c.refused == "" && len(refused) > 0:
				t.Errorf("validate refuses %v: %+v", refused, report.Findings)
			case c.refused != "" && (len(refused) == 0 || !strings.HasPrefix(refused[0], c.refused)):
				t.Errorf("validate refuses %v, want %s", refused, c.refused)
			}
		})
	}
}

func TestWithoutTheTransformerValidateSaysWhatToDo(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for kustomization, field := range map[string]string{
		"commonAnnotations: {owner: retail}\n":                         "spec.template",
		"labels:\n- pairs: {team: retail}\n  includeSelectors: true\n": "spec.selector",
		"commonLabels: {team: retail}\n":                               "spec.selector",
	} {
		dir := repository(t, "")
		write(t, dir, "overlays/site/kustomization.yaml", "resources: [../../base]\ncomponents: [../../components/fleet]\n"+kustomization)
		tree, overlays := open(t, dir)
		report := gitops.Validate(tree, overlays, schemas)
		found := false
		for _, f := range report.Findings {
			found = found || f.Field == field && f.Severity == gitops.Error && strings.Contains(f.Hint, "components/fleet/tidy.yaml")
		}
		if !found {
			t.Errorf("%s: %+v", kustomization, report.Findings)
		}
	}
}
