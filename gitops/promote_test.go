package gitops_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

// promote promotes what is in the working tree.
func promote(t *testing.T, dir string, o gitops.PromoteOptions) (gitops.Promotion, error) {
	t.Helper()
	tree, err := gitops.OpenWorkingTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, overlay := range map[string]*gitops.Overlay{"lab": &o.From, "field": &o.To} {
		if *overlay, err = tree.Find(name); err != nil {
			t.Fatal(err)
		}
	}
	if o.Fields == nil {
		o.Fields = []string{gitops.PromoteImages}
	}
	return gitops.Promote(tree, o)
}

func promoteWell(t *testing.T, dir string, o gitops.PromoteOptions) gitops.Promotion {
	t.Helper()
	promotion, err := promote(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range promotion.Files {
		write(t, dir, name, string(data))
	}
	return promotion
}

// helloOf is the overlay's Deployment hello as it is rendered.
func helloOf(t *testing.T, dir, name string) string {
	t.Helper()
	tree, err := gitops.OpenWorkingTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := tree.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := gitops.Render(tree, overlay)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range rendered.Objects {
		if text := string(object.YAML()); strings.Contains(text, "kind: Deployment") && strings.Contains(text, "\n  name: hello\n") {
			return text
		}
	}
	t.Fatalf("overlay %s has no hello", name)
	return ""
}

const field = "overlays/field/kustomization.yaml"
const lab = "overlays/lab/kustomization.yaml"

func TestPromoteChangesOneLine(t *testing.T) {
	dir := fleetRepository(t)
	// What a person writes has empty lines, comments and quotes of its own.
	replace(t, dir, field, "images:\n- name: hello\n", "\n# Versions of the field.\nimages:\n\n- name: hello   # the shop's own\n")
	replace(t, dir, field, "newTag: v1", "newTag: \"v1\" # since May\n\n")
	before := read(t, dir, field)
	promotion := promoteWell(t, dir, gitops.PromoteOptions{})
	want := strings.Replace(before, `"v1" # since`, `"v2" # since`, 1)
	if got := read(t, dir, field); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if text := helloOf(t, dir, "field"); !strings.Contains(text, "image: registry.example.com/hello:v2") {
		t.Errorf("the field has\n%s", text)
	}
	if message := promotion.Message(); message != "Promote hello v2 from lab to field\n\nfleet Deployment retail/hello: spec.score.podman.containers[hello].image: registry.example.com/hello:v1 -> registry.example.com/hello:v2\n" {
		t.Errorf("message\n%s", message)
	}
	if again := promoteWell(t, dir, gitops.PromoteOptions{}); len(again.Files) != 0 {
		t.Errorf("there is more to promote: %+v", again)
	}
}

func TestPromoteImagesOfEveryForm(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for name, c := range map[string]struct{ lab, field, want string }{
		"an entry that is missing": {"- name: hello\n  newTag: v2\n- name: proxy\n  newName: example.com/proxy\n  newTag: \"1.10\"\n", "- name: hello\n  newTag: v2\n",
			"- name: hello\n  newTag: v2\n- name: proxy\n  newName: example.com/proxy\n  newTag: \"1.10\"\n"},
		"a digest for a tag":    {"- name: hello\n  digest: " + digest + "\n", "- name: hello\n  newTag: v1 # old\n", "- name: hello\n  digest: " + digest + "\n"},
		"a tag for a digest":    {"- name: hello\n  newTag: v2\n", "- name: hello\n  digest: " + digest + "\n", "- name: hello\n  newTag: v2\n"},
		"a name that goes":      {"- name: hello\n  newTag: v2\n", "- name: hello\n  newName: old\n  newTag: v1\n", "- name: hello\n  newTag: v2\n"},
		"entries of the field":  {"- name: hello\n  newTag: v2\n", "- name: other\n  newTag: v9\n- name: hello\n  newTag: v1\n", "- name: other\n  newTag: v9\n- name: hello\n  newTag: v2\n"},
		"entries with indents":  {"- name: hello\n  newTag: v2\n", "  - name: hello\n    newTag: v1\n", "  - name: hello\n    newTag: v2\n"},
		"entries on one line":   {"- name: hello\n  newTag: v2\n", "- {name: hello, newTag: v1}\n", "- {name: hello, newTag: v2}\n"},
		"a tag that is numeric": {"- name: hello\n  newTag: \"2\"\n", "- name: hello\n  newTag: \"1\"\n", "- name: hello\n  newTag: \"2\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			images := func(file, entries string) {
				before, _, _ := strings.Cut(read(t, dir, file), "images:\n")
				write(t, dir, file, before+"images:\n"+entries)
			}
			images(lab, c.lab)
			images(field, c.field)
			before, _, _ := strings.Cut(read(t, dir, field), "images:\n")
			promoteWell(t, dir, gitops.PromoteOptions{})
			if got := read(t, dir, field); got != before+"images:\n"+c.want {
				t.Errorf("got\n%s\nwant\n%s", got, before+"images:\n"+c.want)
			}
		})
	}
}

func TestPromoteAnImageToAnOverlayThatHasNone(t *testing.T) {
	dir := fleetRepository(t)
	before, _, _ := strings.Cut(read(t, dir, field), "images:\n")
	write(t, dir, field, before+"# the end\n")
	promoteWell(t, dir, gitops.PromoteOptions{})
	if text := helloOf(t, dir, "field"); !strings.Contains(text, "image: registry.example.com/hello:v2") {
		t.Errorf("the field has\n%s", text)
	}
	if got := read(t, dir, field); !strings.Contains(got, "images:\n- name: hello\n  newName: registry.example.com/hello\n  newTag: v2\n") {
		t.Errorf("got\n%s", got)
	}
}

// withLabPatch has the lab run hello with other variables, arguments and so on.
func withLabPatch(t *testing.T, dir, containers string) {
	t.Helper()
	write(t, dir, "overlays/lab/patch.yaml", "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Deployment\nmetadata:\n  name: hello\nspec:\n  score:\n    podman:\n"+containers)
	if !strings.Contains(read(t, dir, lab), "patch.yaml") {
		write(t, dir, lab, read(t, dir, lab)+"patches:\n- path: patch.yaml\n")
	}
}

func TestPromoteFieldsBecomesOnePatch(t *testing.T) {
	dir := fleetRepository(t)
	withLabPatch(t, dir, `      terminationGracePeriodSeconds: 9
      containers:
      - name: hello
        args: [--loud]
        env:
        - name: PORT
          value: "8080"
        - name: SIZE
          value: large
        - name: DEVICE
          $patch: delete
      - name: sidecar
        image: registry.example.com/sidecar:v1
`)
	env := "spec.score.podman.containers[hello].env"
	promotion := promoteWell(t, dir, gitops.PromoteOptions{Fields: []string{env}})
	var left []string
	for _, f := range promotion.Left {
		left = append(left, f.Field)
	}
	if want := []string{"spec.score.podman.containers[hello].args", "spec.score.podman.containers[hello].image", "spec.score.podman.containers[sidecar]", "spec.score.podman.terminationGracePeriodSeconds"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	text := helloOf(t, dir, "field")
	if !strings.Contains(text, "SIZE") || strings.Contains(text, "DEVICE") || strings.Contains(text, "loud") || !strings.Contains(text, "hello:v1") {
		t.Errorf("the field has\n%s", text)
	}
	kustomization := read(t, dir, field)
	if strings.Count(kustomization, "promoted-hello.yaml") != 1 {
		t.Errorf("the kustomization is\n%s", kustomization)
	}

	// More of it, and some of it otherwise: one patch still.
	replace(t, dir, "overlays/lab/patch.yaml", "value: large", "value: small")
	replace(t, dir, "overlays/lab/patch.yaml", "        - name: DEVICE\n          $patch: delete\n", "")
	promoteWell(t, dir, gitops.PromoteOptions{Fields: []string{"spec.score.podman.containers", "spec.score.podman.terminationGracePeriodSeconds"}})
	if got := read(t, dir, field); got != kustomization {
		t.Errorf("the kustomization was\n%s\nand is\n%s", kustomization, got)
	}
	text = helloOf(t, dir, "field")
	for _, want := range []string{"value: small", "DEVICE", "--loud", "sidecar:v1", "hello:v2", "terminationGracePeriodSeconds: 9"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s\nof\n%s", want, text, read(t, dir, "overlays/field/promoted-hello.yaml"))
		}
	}
	if again := promoteWell(t, dir, gitops.PromoteOptions{Fields: []string{"spec.score", gitops.PromoteImages}}); len(again.Left) != 0 {
		t.Errorf("there is more: %+v", again.Left)
	}

	// What the lab has no longer goes from the field as well.
	write(t, dir, "overlays/lab/patch.yaml", "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Deployment\nmetadata:\n  name: hello\n")
	promoteWell(t, dir, gitops.PromoteOptions{Fields: []string{"spec.score"}})
	text = helloOf(t, dir, "field")
	for _, gone := range []string{"SIZE", "--loud", "sidecar"} {
		if strings.Contains(text, gone) {
			t.Errorf("%q is in\n%s\nof\n%s", gone, text, read(t, dir, "overlays/field/promoted-hello.yaml"))
		}
	}
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	tree, overlays := open(t, dir)
	if report := gitops.Validate(tree, overlays, schemas); len(report.Findings) > 0 {
		t.Errorf("findings %+v", report.Findings)
	}
}

func TestPromoteOneDeployment(t *testing.T) {
	dir := fleetRepository(t)
	for _, file := range []string{lab, field} {
		replace(t, dir, file, "images:\n", "images:\n- name: signage\n  newName: registry.example.com/hello\n  newTag: v1\n")
	}
	replace(t, dir, "base/signage.yaml", "image: registry.example.com/hello:v1", "image: signage")
	replace(t, dir, lab, "newTag: v1", "newTag: v3")
	promotion := promoteWell(t, dir, gitops.PromoteOptions{Deployment: "signage"})
	if len(promotion.Images) != 1 || promotion.Images[0].Name != "signage" || len(promotion.Changes) != 1 {
		t.Errorf("promotion %+v", promotion)
	}
	if text := helloOf(t, dir, "field"); !strings.Contains(text, "hello:v1") {
		t.Errorf("hello has changed too:\n%s", text)
	}
	// Both run it: one of them can't be promoted alone.
	replace(t, dir, "base/signage.yaml", "image: signage", "image: hello")
	if _, err := promote(t, dir, gitops.PromoteOptions{Deployment: "signage"}); err == nil || !strings.Contains(err.Error(), "retail/hello") {
		t.Errorf("error %v", err)
	}
}

func TestPromoteSaysWhatItCanNot(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		o       gitops.PromoteOptions
		want    string
	}{
		"no such Deployment":     {nil, gitops.PromoteOptions{Deployment: "hallo"}, "no fleet Deployment hallo; there are: hello, signage"},
		"no such field":          {nil, gitops.PromoteOptions{Fields: []string{"spec.score.podman.containers[hello].imagge"}}, "imagge"},
		"a field of the rollout": {nil, gitops.PromoteOptions{Fields: []string{"spec.rollout"}}, "below spec.score"},
		"an overlay that is not built": {func(t *testing.T, dir string) {
			replace(t, dir, field, "resources:\n", "resources:\n- missing.yaml\n")
		}, gitops.PromoteOptions{}, "missing.yaml"},
		"a field that something sets afterwards": {func(t *testing.T, dir string) {
			replace(t, dir, field, "transformers:\n", "transformers:\n- last.yaml\n")
			write(t, dir, "overlays/field/last.yaml", "apiVersion: builtin\nkind: PatchTransformer\nmetadata:\n  name: last\ntarget:\n  kind: Deployment\n  name: hello\npatch: |\n  - op: replace\n    path: /spec/score/podman/terminationGracePeriodSeconds\n    value: 7\n")
		}, gitops.PromoteOptions{Fields: []string{"spec.score.podman.terminationGracePeriodSeconds"}}, "comes after it"},
		"lists that are not merged": {func(t *testing.T, dir string) {
			withLabPatch(t, dir, "      containers:\n      - name: hello\n        env:\n        - name: SIZE\n          value: large\n")
			replace(t, dir, field, "components:\n- ../../components/fleet\n", "")
			replace(t, dir, "base/kustomization.yaml", "components:\n- ../components/fleet\n", "")
		}, gitops.PromoteOptions{Fields: []string{"spec.score.podman.containers[hello].env"}}, "components/fleet is not listed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			if promotion, err := promote(t, dir, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q; %+v", err, c.want, promotion.Changes)
			}
		})
	}
}

func TestPromoteLeavesGeneratedNamesAlone(t *testing.T) {
	dir := fleetRepository(t)
	promotion := promoteWell(t, dir, gitops.PromoteOptions{})
	for _, f := range promotion.Left {
		t.Errorf("each overlay has its own greeting, which is no difference: %+v", f)
	}
	if len(promotion.Changes) != 1 {
		t.Errorf("changes %+v", promotion.Changes)
	}
}
