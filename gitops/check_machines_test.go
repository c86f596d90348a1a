package gitops

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestWhatMachinesTakeFromElsewhereIsFound(t *testing.T) {
	from := func(source *v1alpha1.UserDataSource) v1alpha1.Machine {
		return v1alpha1.Machine{CloudInit: &v1alpha1.CloudInit{UserDataFrom: source}}
	}
	got := sourcesOfMachines(&v1alpha1.KVMScore{Machines: []v1alpha1.Machine{
		{}, {CloudInit: &v1alpha1.CloudInit{UserData: "#cloud-config"}},
		from(&v1alpha1.UserDataSource{ConfigMapKeyRef: &v1alpha1.ConfigMapKeyRef{Name: "setup", Key: "user-data"}}),
		from(&v1alpha1.UserDataSource{SecretKeyRef: &v1alpha1.SecretKeyRef{Name: "secrets", Key: "user-data", Optional: true}}),
	}})
	const field = "spec.score.kvm.machines"
	want := []scoreSource{
		{kind: "ConfigMap", name: "setup", key: "user-data", field: field + "[2].cloudInit.userDataFrom.configMapKeyRef.name"},
		{kind: "Secret", name: "secrets", key: "user-data", field: field + "[3].cloudInit.userDataFrom.secretKeyRef.name", optional: true},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(scoreSource{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
