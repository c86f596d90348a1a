package gitops

import (
	"sync"
	"testing"
)

// compiled are the schemas, which take longer to compile than one input to judge.
var compiled = sync.OnceValues(NewSchemas)

// FuzzValidate has three files of a repository be anything.
func FuzzValidate(f *testing.F) {
	const device = "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata:\n  name: a\n  namespace: b\nspec: {}\n"
	for _, seed := range [][3]string{
		{"resources: [base.yaml]\n", device, ""},
		{"resources: [base.yaml]\npatches: [{path: other.yaml}]\n", device, "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: a}\nspec: {approved: maybe}\n"},
		{"resources: [base.yaml]\nopenapi: {path: other.yaml}\n", device, `{"definitions": {"x": {"x-kubernetes-group-version-kind": [{"kind": 1}]}}}`},
		{"resources: [base.yaml, .]\n", "a: &a [*a]\n", "kind: Secret\nstringData: []\n"},
		{"secretGenerator: [{name: s, envs: [base.yaml], files: [other.yaml]}]\n", "=\n", "x"},
		{"transformers: [base.yaml]\n", "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\npatch: |\n  - {op: add}\n", ""},
		{"resources: [base.yaml]\n", "apiVersion: v1\nkind: List\nitems: [{kind: Secret}, 1, null]\n", ""},
		{"\xff\xfe", "\x00", "- - -"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	schemas, err := compiled()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kustomization, base, other string) {
		tree := newTree("fuzz")
		for name, content := range map[string]string{
			"overlays/site/kustomization.yaml": kustomization, "overlays/site/base.yaml": base, "overlays/site/other.yaml": other,
		} {
			tree.addFile(name, func() ([]byte, error) { return []byte(content), nil })
		}
		overlay, err := tree.Find("site")
		if err != nil {
			t.Fatal(err)
		}
		report := Validate(tree, []Overlay{overlay}, schemas)
		if len(report.Overlays) != 1 {
			t.Errorf("report %+v", report)
		}
	})
}
