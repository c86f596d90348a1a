package flux

import (
	"cmp"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Condition is the Ready condition of a Flux object.
type Condition struct {
	// Status is True, False or Unknown; Unknown is on its way.
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason,omitempty"`
	Message string                 `json:"message,omitempty"`
	Since   *metav1.Time           `json:"since,omitempty"`
}

// ReadyOf reads the Ready condition of a Flux object. One that has not been seen by its
// controller yet, or changed since, is on its way.
func ReadyOf(conditions []metav1.Condition, observed, generation int64) Condition {
	c := apimeta.FindStatusCondition(conditions, "Ready")
	if c == nil || observed >= 0 && observed < generation {
		return Condition{Status: metav1.ConditionUnknown, Reason: "Waiting", Message: "Flux has not answered yet."}
	}
	out := Condition{Status: c.Status, Reason: c.Reason, Message: c.Message}
	if !c.LastTransitionTime.IsZero() {
		out.Since = c.LastTransitionTime.DeepCopy()
	}
	return out
}

// OriginRevision is where an artifact of Flux names what it was built from.
const OriginRevision = "org.opencontainers.image.revision"

// CommitOf takes the Git commit out of a revision of Flux, such as main@sha1:4ddd4d9…. The
// revision of anything but a Git repository is a digest; its origin, when it has one, is
// what people know.
func CommitOf(kind, revision, origin string) string {
	if origin == "" && kind == sourcev1.GitRepositoryKind {
		origin = revision
	}
	return origin[strings.LastIndex(origin, ":")+1:]
}

// RefOf is the branch, tag or range that a repository is followed at.
func RefOf(r *sourcev1.GitRepository) string {
	ref := r.Spec.Reference
	if ref == nil {
		return "master" // Flux's own default
	}
	return cmp.Or(ref.Name, ref.SemVer, ref.Tag, ref.Branch, ref.Commit)
}

// AppliedBy is the Kustomization that an object says that it was applied by; empty for
// none.
func AppliedBy(o metav1.Object) client.ObjectKey {
	return client.ObjectKey{Namespace: o.GetLabels()[LabelNamespace], Name: o.GetLabels()[LabelName]}
}
