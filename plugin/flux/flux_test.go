package flux

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestOwns(t *testing.T) {
	entry := func(manager, subresource, fields string) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{Manager: manager, Subresource: subresource, FieldsV1: metav1.NewFieldsV1(fields)}}
	}
	const fields = `{"f:spec":{"f:paused":{},"f:score":{"f:podman":{"f:restartPolicy":{}}},"f:rollout":{"f:approvals":{"k:{\"wave\":\"shops\"}":{".":{},"f:revision":{}}}}}}`
	approval := func(wave string) []string {
		return append(Path("spec", "rollout", "approvals"), `k:{"wave":"`+wave+`"}`)
	}
	for name, c := range map[string]struct {
		managed []metav1.ManagedFieldsEntry
		path    []string
		want    bool
	}{
		"a field that Flux applies":         {entry("kustomize-controller", "", fields), Path("spec", "paused"), true},
		"something in it":                   {entry("kustomize-controller", "", fields), Path("spec", "score"), true},
		"another field":                     {entry("kustomize-controller", "", fields), Path("spec", "suspend"), false},
		"a field in a field that is not":    {entry("kustomize-controller", "", fields), Path("spec", "score", "podman", "restartedAt"), false},
		"the element of a list":             {entry("kustomize-controller", "", fields), approval("shops"), true},
		"another element":                   {entry("kustomize-controller", "", fields), approval("all"), false},
		"a field that somebody else writes": {entry("fleet-plugin", "", fields), Path("spec", "paused"), false},
		"a field of the status":             {entry("kustomize-controller", "status", fields), Path("spec", "paused"), false},
		"what can't be read":                {entry("kustomize-controller", "", "{"), Path("spec", "paused"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := owns(c.managed, c.path); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestFluxLeavesAlone(t *testing.T) {
	managed := []metav1.ManagedFieldsEntry{{Manager: "kustomize-controller", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:paused":{}}}`)}}
	for annotation, undone := range map[string]bool{"": true, AnnotationReconcile + "=disabled": false, AnnotationSSA + "=Ignore": false, AnnotationSSA + "=Merge": true} {
		d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{ManagedFields: managed, Labels: map[string]string{LabelName: "field", LabelNamespace: "flux-system"}}}
		if key, value, ok := strings.Cut(annotation, "="); ok {
			d.Annotations = map[string]string{key: value}
		}
		if got, words := Of(d).Opinion(d, Change{Field: "spec.paused", Path: Path("spec", "paused")}); got != undone {
			t.Errorf("%q: %s", annotation, words)
		}
	}
}
