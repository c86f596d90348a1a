package gitops_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

// wavesAndSecrets has what TestValidateLooksAtWhatADeploymentRefersTo breaks.
const wavesAndSecrets = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: till
  namespace: shops
spec:
  targetSelector:
    matchLabels: {site: shop}
  rollout:
    waves:
    - name: canary
      selector:
        matchLabels: {canary: "yes"}
    - name: half
      limit: 50%
    approvals:
    - wave: half
      revision: till-1
  score:
    podman:
      containers:
      - name: till
        image: registry.example.com/till:v1
        envFrom:
        - secretRef: {name: till}
        env:
        - name: PASSWORD
          valueFrom:
            secretKeyRef: {name: till, key: password}
        volumeMounts:
        - {name: tls, mountPath: /tls}
      volumes:
      - name: tls
        secret:
          secretName: till
          items:
          - {key: password, path: password}
      imagePullSecrets:
      - name: registry
---
apiVersion: v1
kind: Secret
metadata: {name: till, namespace: shops}
stringData: {password: not-a-word-to-print}
---
apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: shops}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: "{}"}
---
apiVersion: fleet.nationtech.io/v1alpha1
kind: Device
metadata:
  name: till-1
  namespace: shops
  labels: {site: shop, canary: "yes"}
spec:
  publicKey: ` + key + `
---
apiVersion: fleet.nationtech.io/v1alpha1
kind: Device
metadata:
  name: till-2
  namespace: shops
  labels: {site: shop}
spec: {}
`

func TestValidateLooksAtWhatADeploymentRefersTo(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string
		severity       gitops.Severity
		field, message string
		line           string // text on the line of the finding
	}{
		{name: "nothing"},
		{"envFrom of a Secret that is missing", "secretRef: {name: till}", "secretRef: {name: tall}", gitops.Warning,
			"spec.score.podman.containers[0].envFrom[0].secretRef.name", "no Secret tall", "secretRef"},
		{"a Secret that is missing and optional", "secretRef: {name: till}", "secretRef: {name: tall, optional: true}", "", "", "", ""},
		{"a key of a Secret that is missing", "secretKeyRef: {name: till, key: password}", "secretKeyRef: {name: till, key: pasword}", gitops.Error,
			"spec.score.podman.containers[0].env[0].valueFrom.secretKeyRef.name", `Secret till has no key "pasword"`, "secretKeyRef"},
		{"a file of a Secret that is missing", "{key: password, path: password}", "{key: cert, path: cert}", gitops.Error,
			"spec.score.podman.volumes[0].secret.items[0].key", `Secret till has no key "cert"`, "key: cert"},
		{"a volume of a Secret that is missing", "secretName: till\n", "secretName: tall\n", gitops.Warning,
			"spec.score.podman.volumes[0].secret.items[0].key", "no Secret tall", "key: password"},
		{"a login that is missing", "- name: registry\n", "- name: registries\n", gitops.Warning,
			"spec.score.podman.imagePullSecrets[0].name", "no Secret registries", "registries"},
		{"a Secret of another namespace", "metadata: {name: registry, namespace: shops}", "metadata: {name: registry, namespace: mall}", gitops.Warning,
			"spec.score.podman.imagePullSecrets[0].name", "no Secret registry", "registry"},
		{"a wave that matches nobody", `matchLabels: {canary: "yes"}`, `matchLabels: {canary: "no"}`, gitops.Warning,
			"spec.rollout.waves[0].selector", "matches none of the 2 devices", "selector:"},
		{"a wave that matches only what is not selected", "labels: {site: shop, canary: \"yes\"}", "labels: {site: mall, canary: \"yes\"}", gitops.Warning,
			"spec.rollout.waves[0].selector", "matches none of the 1 devices", "selector:"},
		{"a wave after one that takes all", "    - name: half\n      limit: 50%\n", "    - name: all\n      limit: 2\n    - name: half\n      limit: 50%\n", gitops.Warning,
			"spec.rollout.waves[2]", "stays empty: the waves before it take all 2 devices", "- name: half"},
		{"a wave after one that takes some", "      selector:\n        matchLabels: {canary: \"yes\"}\n", "      limit: 1\n", "", "", "", ""},
		{"an operator of a wave's selector that is none", `matchLabels: {canary: "yes"}`, `matchExpressions: [{key: canary, operator: Is}]`, gitops.Error,
			"spec.rollout.waves[0].selector", "not a valid label selector operator", "selector:"},
		{"an approval of no wave", "- wave: half\n", "- wave: haif\n", gitops.Warning, "spec.rollout.approvals[0].wave", "there is no wave haif", "wave: haif"},
		{"an approval of the rest", "- wave: half\n", "- wave: rest\n", "", "", "", ""},
		{"an image without a tag", "/till:v1", "/till", gitops.Warning, "spec.score.podman.containers[0].image", "neither tag nor digest", "image:"},
		{"an image of a registry with a port, without a tag", "registry.example.com/till:v1", "registry.example.com:5000/till", gitops.Warning,
			"spec.score.podman.containers[0].image", "neither tag nor digest", "image:"},
		{"the image latest", "/till:v1", "/till:latest", gitops.Warning, "spec.score.podman.containers[0].image", "the tag latest", "image:"},
		{"an image with a digest", "/till:v1", "/till@sha256:" + strings.Repeat("0", 64), "", "", "", ""},
		{"a device of another namespace with the same ID", "  name: till-2\n  namespace: shops\n", "  name: till-1\n  namespace: malls\n", gitops.Error,
			"metadata.name", "has a device of this name too: Device shops/till-1", "name: till-1"},
		{"a key that two devices have", "spec: {}\n", "spec:\n  publicKey: " + key + "\n", gitops.Error,
			"spec.publicKey", "Device shops/till-1 of overlay site has this key too", "publicKey"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, "")
			if !strings.Contains(wavesAndSecrets, c.old) {
				t.Fatalf("there is no %q", c.old)
			}
			text := strings.Replace(wavesAndSecrets, c.old, c.new, 1)
			write(t, dir, "overlays/site/kustomization.yaml", "resources: [all.yaml]\ncomponents: [../../components/fleet]\n")
			write(t, dir, "overlays/site/all.yaml", text)
			tree, overlays := open(t, dir)
			report := gitops.Validate(tree, overlays, schemas)
			if c.severity == "" {
				if len(report.Findings) > 0 {
					t.Errorf("findings %+v", report.Findings)
				}
				return
			}
			of := slices.DeleteFunc(slices.Clone(report.Findings), func(f gitops.Finding) bool { return f.Severity != c.severity })
			if len(of) != 1 {
				t.Fatalf("want one finding, got %+v", report.Findings)
			}
			f := of[0]
			if f.Severity != c.severity || f.Field != c.field || !strings.Contains(f.Message, c.message) || f.File != "overlays/site/all.yaml" {
				t.Errorf("finding %+v", f)
			}
			if lines := strings.Split(text, "\n"); f.Line < 1 || f.Line > len(lines) || !strings.Contains(lines[f.Line-1], c.line) {
				t.Errorf("line %d does not have %q", f.Line, c.line)
			}
		})
	}
}

func TestValidateFindsAKeyInTwoOverlays(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	dir := repository(t, "")
	device := "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata:\n  name: NAME\n  namespace: shops\nspec:\n  publicKey: " + key + "\n"
	for overlay, name := range map[string]string{"site": "a", "yard": "b"} {
		write(t, dir, "overlays/"+overlay+"/kustomization.yaml", "resources: [devices.yaml]\n")
		write(t, dir, "overlays/"+overlay+"/devices.yaml", strings.ReplaceAll(device, "NAME", name))
	}
	tree, overlays := open(t, dir)
	for range 20 { // in the same order whoever of the goroutines is first
		report := gitops.Validate(tree, overlays, schemas)
		if len(report.Findings) != 1 || report.Findings[0].File != "overlays/yard/devices.yaml" || report.Findings[0].Line != 7 ||
			!strings.Contains(report.Findings[0].Message, "Device shops/a of overlay site has this key too") {
			t.Fatalf("findings %+v", report.Findings)
		}
	}
}
