package device

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestOnlyWhatTheOperatorItselfMadeIsReplaced(t *testing.T) {
	const key = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T"
	made := func(namespace string, approved bool, annotations map[string]string, age time.Duration) *v1alpha1.Device {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "a", UID: types.UID(namespace), Annotations: annotations,
			CreationTimestamp: metav1.NewTime(time.Unix(1_000_000, 0).Add(-age)),
		}}
		d.Spec.Approved, d.Spec.PublicKey = approved, key
		return d
	}
	registered := map[string]string{v1alpha1.AnnotationRegistered: "true"}
	for name, tt := range map[string]struct {
		obj  *v1alpha1.Device
		want bool
	}{
		"the one that register made":                 {made(system, false, registered, time.Hour), true},
		"the one that register made, approved since": {made(system, true, registered, time.Hour), false},
		"somebody's in the same namespace":           {made(system, false, nil, time.Hour), false},
		"somebody's elsewhere, with the annotation":  {made("shops", false, registered, time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newReconciler(t)
			r.Roster.Set(tt.obj)
			r.Roster.Set(made("retail", true, nil, 0))
			if got := r.replaced(tt.obj); got != tt.want {
				t.Errorf("replaced: %v, want %v", got, tt.want)
			}
		})
	}
}
