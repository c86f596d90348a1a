package resolve

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

func someMachine(change ...func(*v1alpha1.KVMScore)) v1alpha1.Score {
	size := resource.MustParse("20Gi")
	k := &v1alpha1.KVMScore{
		Volumes:  []v1alpha1.MachineVolume{{Name: "data", Size: resource.MustParse("1G")}},
		Networks: []v1alpha1.MachineNetwork{{Name: "inside", CIDR: "10.20.0.0/24"}},
		Machines: []v1alpha1.Machine{{
			Name: "till", CPUs: 2, Memory: resource.MustParse("1Gi"),
			Disks:      []v1alpha1.Disk{{Name: "root", Image: "debian.qcow2", Size: &size}, {Name: "data", Volume: "data"}},
			Interfaces: []v1alpha1.MachineInterface{{Name: "net", Network: "inside"}},
		}},
	}
	for _, c := range change {
		c(k)
	}
	return v1alpha1.Score{KVM: k}
}

func TestMachinesAreResolvedWithTheirDefaults(t *testing.T) {
	template, err := New("shops", someMachine(func(k *v1alpha1.KVMScore) {
		k.Machines[0].ReadinessProbe = &v1alpha1.MachineProbe{HTTPGet: &v1alpha1.MachineHTTPGet{Port: 80}}
	}), Sources{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := template.For(Device{Name: "till-1"})
	if err != nil {
		t.Fatal(err)
	}
	want := contracts.ReconcileScore{KVM: &contracts.KVMScore{
		Volumes:  []contracts.MachineVolume{{Name: "data", SizeBytes: 1000000512}},
		Networks: []contracts.MachineNetwork{{Name: "inside", Mode: "NAT", CIDR: "10.20.0.0/24", DHCP: true}},
		Machines: []contracts.Machine{{
			Name: "till", CPUs: 2, MemoryBytes: 1 << 30, Console: true, StopSeconds: 60,
			Disks:      []contracts.Disk{{Name: "root", Image: "debian.qcow2", SizeBytes: 20 << 30}, {Name: "data", Volume: "data"}},
			Interfaces: []contracts.MachineInterface{{Name: "net", Network: "inside"}},
			Readiness:  &contracts.MachineProbe{HTTP: &contracts.HTTPProbe{Path: "/", Port: 80}, Timeout: 1, Period: 10, FailureThreshold: 3},
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := contracts.Encode(contracts.DesiredState{Deployment: "shop", Namespace: "shops", Revision: "shop-1", Digest: got.Digest(), Score: got, Issued: 1}); err != nil {
		t.Errorf("devices can't be told it: %v", err)
	}
}

func TestMachinesThatCannotBeAreInvalid(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*v1alpha1.Machine)
		want   string
	}{
		"no memory":             {func(m *v1alpha1.Machine) { m.Memory = resource.MustParse("0") }, "machine till: memory must be at least 1Mi"},
		"memory of a few bytes": {func(m *v1alpha1.Machine) { m.Memory = resource.MustParse("512") }, "must be at least 1Mi, and is 512"},
		"less at most than now": {func(m *v1alpha1.Machine) { q := resource.MustParse("512Mi"); m.MaxMemory = &q }, "maxMemory 512Mi must not be below memory 1Gi"},
		"a disk of no size":     {func(m *v1alpha1.Machine) { *m.Disks[0].Size = resource.MustParse("0") }, "disk root: size must be at least 1Ki"},
		"a probe of no kind":    {func(m *v1alpha1.Machine) { m.ReadinessProbe = &v1alpha1.MachineProbe{} }, "exactly one of httpGet, tcpSocket and guestAgent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New("shops", someMachine(func(k *v1alpha1.KVMScore) { tt.change(&k.Machines[0]) }), Sources{})
			if !IsInvalid(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want an invalid score that says %q", err, tt.want)
			}
		})
	}
}

func TestUserDataComesFromElsewhere(t *testing.T) {
	from := func(source v1alpha1.UserDataSource) v1alpha1.Score {
		return someMachine(func(k *v1alpha1.KVMScore) { k.Machines[0].CloudInit = &v1alpha1.CloudInit{UserDataFrom: &source} })
	}
	public := from(v1alpha1.UserDataSource{ConfigMapKeyRef: &v1alpha1.ConfigMapKeyRef{Name: "setup", Key: "user-data"}})
	secret := from(v1alpha1.UserDataSource{SecretKeyRef: &v1alpha1.SecretKeyRef{Name: "setup", Key: "user-data"}})
	if got := References(public); !slices.Equal(got, []string{"setup"}) {
		t.Errorf("the score refers to the ConfigMaps %v", got)
	}
	if got := SecretReferences(secret); !slices.Equal(got, []string{"setup"}) {
		t.Errorf("the score refers to the Secrets %v", got)
	}
	for name, score := range map[string]v1alpha1.Score{"a ConfigMap": public, "a Secret": secret} {
		if _, err := New("shops", score, Sources{}); !IsNotFound(err) || !strings.Contains(err.Error(), "machine till, cloudInit.userDataFrom") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	template, err := New("shops", public, Sources{ConfigMaps: map[string]*corev1.ConfigMap{"setup": {Data: map[string]string{"user-data": "#cloud-config"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := template.For(Device{Name: "till-1"}); err != nil || s.KVM.Machines[0].CloudInit.UserData != "#cloud-config" {
		t.Errorf("%+v, %v", s.KVM, err)
	}
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: "setup"}, Data: map[string][]byte{"user-data": []byte("password")}}
	template, err = New("shops", secret, Sources{Secrets: map[string]*Secret{"setup": Salt("salt").Secret(object)}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := template.For(Device{Name: "till-1"})
	if err != nil {
		t.Fatal(err)
	}
	c := s.KVM.Machines[0].CloudInit
	if c.UserData != "" || c.SecretUserData == nil || string(template.Secrets()[c.SecretUserData.Name]) != "password" {
		t.Errorf("%+v with the secrets %v", c, template.Secrets())
	}
	before, err := ContentOf(secret, Sources{Secrets: map[string]*Secret{"setup": Salt("salt").Secret(object)}}).Name("shop")
	if err != nil {
		t.Fatal(err)
	}
	object.Data["user-data"] = []byte("another")
	after, err := ContentOf(secret, Sources{Secrets: map[string]*Secret{"setup": Salt("salt").Secret(object)}}).Name("shop")
	if err != nil || before == after {
		t.Errorf("with another secret the revision is %s still: %v", after, err)
	}
}
