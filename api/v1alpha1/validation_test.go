package v1alpha1_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const podmanDeployment = `
apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata: {name: hello}
spec:
  targetSelector: {matchLabels: {site: here}}
  score:
    podman:
      containers:
      - name: hello
        image: registry.example/hello:v1
`

const device = `
apiVersion: fleet.nationtech.io/v1alpha1
kind: Device
metadata: {name: shop-1}
spec: {approved: true}
`

func TestAPIServerRefusesWithAClearMessage(t *testing.T) {
	tests := []struct {
		name, manifest, want string
	}{
		{
			name: "two scores at once",
			manifest: podmanDeployment + `
    kubernetes:
      manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]
`,
			want: "exactly one of podman, kubernetes and kvm must be set",
		},
		{
			name:     "a score of no kind",
			manifest: strings.Split(podmanDeployment, "\n    podman:")[0] + " {}\n",
			want:     "exactly one of podman, kubernetes and kvm must be set",
		},
		{
			name:     "a field that the schema does not know",
			manifest: podmanDeployment + "        imagePullPolicies: Always\n",
			want:     `unknown field "spec.score.podman.containers[0].imagePullPolicies"`,
		},
		{
			name:     "what kustomize's replicas transformer writes",
			manifest: podmanDeployment + "  replicas: 3\n",
			want:     `unknown field "spec.replicas"`,
		},
		{
			name:     "a Deployment's name with a dot",
			manifest: strings.Replace(podmanDeployment, "name: hello}", "name: he.llo}", 1),
			want:     "a Deployment's name must be a DNS label of at most 52 characters",
		},
		{
			name:     "a device ID with a dot",
			manifest: strings.Replace(device, "shop-1", "shop.1", 1),
			want:     "a Device's name is its device ID and must be a DNS label",
		},
		{
			name:     "a public key that is none",
			manifest: strings.Replace(device, "approved: true", "publicKey: SUAA", 1),
			want:     "spec.publicKey",
		},
		{
			name:     "a percentage above 100",
			manifest: podmanDeployment + "  rollout: {maxUnavailable: 150%}\n",
			want:     "must be a number from 1 to 1000000000 or a percentage from 1% to 100%",
		},
		// What the operator can't decode would keep it from reading any Deployment.
		{
			name:     "a number of devices that no integer holds",
			manifest: podmanDeployment + "  rollout: {maxUnavailable: 3000000000}\n",
			want:     "must be a number from 1 to 1000000000",
		},
		{
			name:     "a probe's port that no integer holds",
			manifest: podmanDeployment + "        readinessProbe: {tcpSocket: {port: 3000000000}}\n",
			want:     "must be a port from 1 to 65535",
		},
		{
			name:     "an HTTP probe's port that is no port",
			manifest: podmanDeployment + "        readinessProbe: {httpGet: {port: 0}}\n",
			want:     "must be a port from 1 to 65535",
		},
		{
			name:     "a limit that only looks like a quantity",
			manifest: podmanDeployment + "        resources: {limits: {cpu: 1e1.5}}\n",
			want:     "spec.score.podman.containers[0].resources.limits.cpu",
		},
		{
			name:     "a threshold that no integer holds",
			manifest: podmanDeployment + "        readinessProbe: {tcpSocket: {port: 80}, failureThreshold: 3000000000}\n",
			want:     "failureThreshold",
		},
		{
			name:     "a deadline of nothing",
			manifest: podmanDeployment + "  rollout: {progressDeadline: 0s}\n",
			want:     "must be a duration of at least 1s",
		},
		{
			name:     "a variable with two sources",
			manifest: podmanDeployment + "        env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n",
			want:     "value and valueFrom must not both be set",
		},
		{
			name:     "a variable of a Secret and of the Device",
			manifest: podmanDeployment + "        env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}}}]\n",
			want:     "exactly one of fieldRef, configMapKeyRef and secretKeyRef must be set",
		},
		{
			name:     "variables of nothing",
			manifest: podmanDeployment + "        envFrom: [{prefix: A_}]\n",
			want:     "exactly one of configMapRef and secretRef must be set",
		},
		{
			name:     "a Secret's name that is none",
			manifest: podmanDeployment + "        envFrom: [{secretRef: {name: ../theirs}}]\n",
			want:     "secretRef.name",
		},
		{
			name:     "a probe of two kinds",
			manifest: podmanDeployment + "        readinessProbe: {tcpSocket: {port: 80}, httpGet: {port: 80}}\n",
			want:     "exactly one of httpGet, tcpSocket and exec must be set",
		},
		{
			name:     "a host port that the host network can't have",
			manifest: podmanDeployment + "        ports: [{containerPort: 80, hostPort: 81}]\n      hostNetwork: true\n",
			want:     "with hostNetwork a hostPort must equal its containerPort",
		},
		{
			name:     "a volume of two kinds",
			manifest: podmanDeployment + "      volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]\n",
			want:     "exactly one of configMap, secret, emptyDir, hostPath and persistentVolumeClaim must be set",
		},
		{
			name:     "a sub-path that leaves its volume",
			manifest: podmanDeployment + "        volumeMounts: [{name: v, mountPath: /v, subPath: a/../..}]\n",
			want:     "must be relative and must not contain '..'",
		},
	}
	for _, tt := range tests {
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

func TestAPIServerFillsInDefaults(t *testing.T) {
	deployment, err := tryCreate(t, podmanDeployment)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := tryCreate(t, device)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		obj  *unstructured.Unstructured
		want any
		path []string
	}{
		{"a Deployment that nobody has seen is not Current to kstatus", deployment, int64(-1), []string{"status", "observedGeneration"}},
		{"a Device that nobody has seen is not Current to kstatus", dev, int64(-1), []string{"status", "observedGeneration"}},
		{"a quarter may be unavailable", deployment, "25%", []string{"spec", "rollout", "maxUnavailable"}},
		{"ten minutes without progress are too long", deployment, "10m", []string{"spec", "rollout", "progressDeadline"}},
		{"containers are restarted", deployment, "Always", []string{"spec", "score", "podman", "restartPolicy"}},
		{"ten revisions are kept", deployment, int64(10), []string{"spec", "revisionHistoryLimit"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found, err := unstructured.NestedFieldNoCopy(tt.obj.Object, tt.path...)
			if err != nil || !found {
				t.Fatalf("%s: found %v, %v", strings.Join(tt.path, "."), found, err)
			}
			if got != tt.want {
				t.Errorf("%s = %v, want %v", strings.Join(tt.path, "."), got, tt.want)
			}
		})
	}
}
