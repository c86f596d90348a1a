package v1alpha1_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const kvmDeployment = `
apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata: {name: tills}
spec:
  targetSelector: {matchLabels: {site: here}}
  score:
    kvm:
      volumes:
      - name: data
        size: 10Gi
      networks:
      - name: inside
        cidr: 10.20.0.0/24
      machines:
      - name: till
        cpus: 2
        memory: 2Gi
        disks:
        - {name: root, image: debian-12.qcow2, size: 20Gi}
        - {name: data, volume: data}
        interfaces:
        - {name: net, network: inside}
        - {name: lan, bridge: br0, macAddress: "52:54:00:12:34:56"}
        cloudInit:
          userDataFrom: {secretKeyRef: {name: till, key: user-data}}
        readinessProbe:
          tcpSocket: {port: 22}
`

func TestAPIServerRefusesMachinesWithAClearMessage(t *testing.T) {
	if _, err := tryCreate(t, kvmDeployment); err != nil {
		t.Fatalf("the one that all others are made from: %v", err)
	}
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(kvmDeployment, old) {
			t.Fatalf("there is no %q to change", old)
		}
		return strings.Replace(kvmDeployment, old, new, 1)
	}
	for _, tt := range []struct{ name, manifest, want string }{
		{"a pod and machines", kvmDeployment + "    podman: {containers: [{name: a, image: b}]}\n", "exactly one of podman, kubernetes and kvm must be set"},
		{"an unknown field", change("cpus: 2", "cpus: 2\n        cores: 2"), `unknown field "spec.score.kvm.machines[0].cores"`},
		{"no processor", change("cpus: 2", "cpus: 0"), "spec.score.kvm.machines[0].cpus"},
		{"fewer processors at most than now", change("cpus: 2", "cpus: 2\n        maxCPUs: 1"), "maxCPUs must not be below cpus"},
		{"an architecture that there is not", change("cpus: 2", "cpus: 2\n        arch: sparc"), "spec.score.kvm.machines[0].arch"},
		{"a machine type that there is not", change("cpus: 2", "cpus: 2\n        machineType: q36"), "spec.score.kvm.machines[0].machineType"},
		{"a disk of nothing", change("image: debian-12.qcow2, size: 20Gi", "readOnly: true"), "exactly one of image and volume must be set"},
		{"an image and a volume", change("image: debian-12.qcow2, size: 20Gi", "image: debian-12.qcow2, volume: data"), "exactly one of image and volume must be set"},
		{"an image that is a path", change("debian-12.qcow2", "../debian"), "spec.score.kvm.machines[0].disks[0].image"},
		{"the size of a volume's disk", change("volume: data}", "volume: data, size: 1Gi}"), "a volume has its own"},
		{"a volume that there is not", change("volume: data}", "volume: date}"), "a disk's volume must be one of volumes"},
		{"a volume twice", change("- {name: data, volume: data}", "- {name: data, volume: data}\n        - {name: again, volume: data}"), "a volume must not be the disk of more than one machine"},
		{"a network that there is not", change("network: inside}", "network: outside}"), "an interface's network must be one of networks"},
		{"a network and a bridge", change("network: inside}", "network: inside, bridge: br0}"), "exactly one of network and bridge must be set"},
		{"a MAC address of many", change("52:54:00:12:34:56", "01:00:5e:00:00:01"), "macAddress"},
		{"NAT without addresses", change("cidr: 10.20.0.0/24", "mode: NAT"), "mode NAT needs a cidr"},
		{"DHCP without addresses", change("cidr: 10.20.0.0/24", "mode: Isolated\n        dhcp: true"), "dhcp needs a cidr"},
		{"addresses that are none", change("10.20.0.0/24", "10.20.0.0/33"), "must be a range of addresses"},
		{"a bridge of no name", change("cidr: 10.20.0.0/24", "mode: Bridge"), "bridge must be set with mode Bridge"},
		{"addresses on a bridge", change("cidr: 10.20.0.0/24", "mode: Bridge\n        bridge: br0\n        cidr: 10.20.0.0/24"), "cidr and dhcp must not be set"},
		{"user data twice", change("cloudInit:", "cloudInit:\n          userData: x"), "userData and userDataFrom must not both be set"},
		{"a probe of two kinds", change("tcpSocket: {port: 22}", "tcpSocket: {port: 22}\n          guestAgent: {}"), "exactly one of httpGet, tcpSocket and guestAgent must be set"},
		{"no machine", kvmDeployment[:strings.Index(kvmDeployment, "      machines:")] + "      machines: []\n", "spec.score.kvm.machines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryCreate(t, tt.manifest)
			if err == nil {
				t.Fatal("the API server accepts it")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v\nwant it to contain %q", err, tt.want)
			}
		})
	}
}

func TestAPIServerFillsInDefaultsOfMachines(t *testing.T) {
	made, err := tryCreate(t, kvmDeployment)
	if err != nil {
		t.Fatal(err)
	}
	list := func(name string) map[string]any {
		t.Helper()
		all, _, err := unstructured.NestedSlice(made.Object, "spec", "score", "kvm", name)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v", name, all, err)
		}
		return all[0].(map[string]any)
	}
	machine, network := list("machines"), list("networks")
	probe := machine["readinessProbe"].(map[string]any)
	for name, tt := range map[string]struct{ got, want any }{
		"the console is kept":               {machine["console"], true},
		"a guest has a minute to shut down": {machine["terminationGracePeriodSeconds"], int64(60)},
		"a network leads out":               {network["mode"], "NAT"},
		"a probe looks every ten seconds":   {probe["periodSeconds"], int64(10)},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
}
