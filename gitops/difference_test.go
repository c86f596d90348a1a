package gitops_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/gitops"
)

func manifest(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	if text == "" {
		return nil
	}
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: shops%s}\ndata: {COLOR: %s}\n"
	secret    = "apiVersion: v1\nkind: Secret\nmetadata: {name: s%s}\n%s\n"
)

func TestCompare(t *testing.T) {
	m := func(metadata, color string) string { return fmt.Sprintf(configMap, metadata, color) }
	s := func(metadata, data string) string { return fmt.Sprintf(secret, metadata, data) }
	kept := `, uid: u, resourceVersion: "7", generation: 3, creationTimestamp: "2026-01-01T00:00:00Z",
  managedFields: [{manager: x}], labels: {kustomize.toolkit.fluxcd.io/name: a, kustomize.toolkit.fluxcd.io/namespace: b},
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", reconcile.fluxcd.io/requestedAt: now}`
	encrypted := "data: {a: 'ENC[AES256_GCM,data:%s]'}\nsops: {mac: 'ENC[AES256_GCM,data:%s]', age: [{recipient: age1x}]}"
	for name, c := range map[string]struct {
		before, after string
		change        gitops.Change
		// diff is what it must have, and hidden what it must not.
		diff, hidden []string
	}{
		"what a cluster keeps besides is no difference":  {before: m(kept, "red"), after: m("", "red")},
		"status is no difference":                        {before: m("", "red") + "status: {a: 1}\n", after: m("", "red")},
		"a label of somebody else's is one":              {before: m(", labels: {a: b}", "red"), after: m("", "red"), change: gitops.Changed, diff: []string{"-  labels:", "-    a: b"}},
		"a changed value":                                {before: m("", "red"), after: m("", "blue"), change: gitops.Changed, diff: []string{"-  COLOR: red\n", "+  COLOR: blue\n", " kind: ConfigMap"}},
		"an added object":                                {after: m(kept, "red"), change: gitops.Added, diff: []string{"+  COLOR: red\n"}, hidden: []string{"uid", "managedFields", "\n-"}},
		"a removed object":                               {before: m("", "red"), change: gitops.Removed, diff: []string{"-  COLOR: red\n"}, hidden: []string{"\n+"}},
		"a changed secret":                               {before: s("", "data: {a: b2xk, c: c2FtZQ==}"), after: s("", "data: {a: bmV3, c: c2FtZQ==}"), change: gitops.Changed, diff: []string{"-  a: '*** (before)'", "+  a: '*** (after)'", "   c: '***'"}, hidden: []string{"b2xk", "bmV3", "c2FtZQ"}},
		"an added secret":                                {after: s("", "data: {a: bmV3}"), change: gitops.Added, diff: []string{"+  a: '***'"}, hidden: []string{"bmV3"}},
		"a removed secret":                               {before: s("", "data: {a: b2xk}"), change: gitops.Removed, diff: []string{"-  a: '***'"}, hidden: []string{"b2xk"}},
		"a secret with another key":                      {before: s("", "data: {a: b2xk}"), after: s("", "data: {a: b2xk, b: bmV3}"), change: gitops.Changed, diff: []string{"   a: '***'", "+  b: '***'"}, hidden: []string{"b2xk", "bmV3"}},
		"a secret in the clear":                          {before: s("", "stringData: {a: old}"), after: s("", "stringData: {a: new}"), change: gitops.Changed, diff: []string{"*** (before)", "*** (after)"}, hidden: []string{"old", "new"}},
		"a secret in the annotation of kubectl apply":    {before: s(`, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"data":{"a":"b2xk"}}'}`, "data: {a: b2xk}"), after: s("", "data: {a: bmV3}"), change: gitops.Changed, hidden: []string{"b2xk", "bmV3", "last-applied"}},
		"a secret that is malformed":                     {before: s("", "data: b2xk"), after: s("", "data: {a: [bmV3, {b: bW9yZQ==}]}"), change: gitops.Changed, hidden: []string{"b2xk", "bmV3", "bW9yZQ"}},
		"a secret whose numbers are hidden too":          {before: s("", "stringData: {pin: 4711}"), after: s("", "stringData: {pin: 4712}"), change: gitops.Changed, hidden: []string{"471"}},
		"a secret that SOPS has encrypted":               {before: s("", fmt.Sprintf(encrypted, "olda", "oldm")), after: s("", fmt.Sprintf(encrypted, "newa", "newm")), change: gitops.Changed, diff: []string{"*** (before)"}, hidden: []string{"olda", "oldm", "newa", "newm", "age1x"}},
		"what SOPS has encrypted of another kind":        {before: m("", "'ENC[AES256_GCM,data:old]'"), after: m("", "'ENC[AES256_GCM,data:new]'"), change: gitops.Changed, diff: []string{"*** (after)"}, hidden: []string{"data:old", "data:new"}},
		"what was in the clear before it was encrypted":  {before: m("", "hunter2"), after: m("", "'ENC[AES256_GCM,data:new]'"), change: gitops.Changed, hidden: []string{"hunter2", "data:new"}},
		"encrypted elements of a list of another length": {before: "apiVersion: x/v1\nkind: X\nmetadata: {name: x}\nspec: {l: ['ENC[old]']}\n", after: "apiVersion: x/v1\nkind: X\nmetadata: {name: x}\nspec: {l: ['ENC[old]', 'ENC[new]'], m: {}}\n", change: gitops.Changed, diff: []string{"+  m: {}"}, hidden: []string{"ENC"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, differs, err := gitops.Compare(manifest(t, c.before), manifest(t, c.after))
			if err != nil || differs != (c.change != "") || d.Change != c.change {
				t.Fatalf("%v, change %q, want %q; %v\n%s", differs, d.Change, c.change, err, d.Diff)
			}
			for _, want := range c.diff {
				if !strings.Contains(d.Diff, want) {
					t.Errorf("%q is not in\n%s", want, d.Diff)
				}
			}
			for _, hidden := range c.hidden {
				if strings.Contains(d.Diff, hidden) {
					t.Errorf("%q is in\n%s", hidden, d.Diff)
				}
			}
		})
	}
}

// TestNothingOfASecretIsShown has no value of any Secret in a difference, whatever its form.
func TestNothingOfASecretIsShown(t *testing.T) {
	// The mark is in every value and nowhere else.
	const mark = "hUnTeR"
	value := rapid.Custom(func(t *rapid.T) any {
		text := mark + rapid.StringMatching(`[ -~\n]{0,20}`).Draw(t, "text")
		return rapid.SampledFrom([]any{text, []any{text, "x"}, map[string]any{"k": text}, nil, int64(7)}).Draw(t, "value")
	})
	data := rapid.OneOf(rapid.Map(rapid.MapOf(rapid.StringMatching(`[a-c]`), value), func(m map[string]any) any { return m }), value)
	side := rapid.Custom(func(t *rapid.T) *unstructured.Unstructured {
		if rapid.IntRange(0, 5).Draw(t, "absent") == 0 {
			return nil
		}
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s"}}}
		for _, field := range []string{"data", "stringData", "sops"} {
			if rapid.Bool().Draw(t, field) {
				o.Object[field] = data.Draw(t, "data")
			}
		}
		return o
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := side.Draw(t, "before"), side.Draw(t, "after")
		if before == nil && after == nil {
			return
		}
		d, _, err := gitops.Compare(before, after)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(d.Diff, mark) {
			t.Fatalf("a value is shown:\n%s", d.Diff)
		}
	})
}
