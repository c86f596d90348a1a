package gitops_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/nationtech/fleet/gitops"
)

// TestNoValueOfASecretIsPrinted breaks Secrets, and what makes them, in all ways that
// kustomize and the decoders have words for.
func TestNoValueOfASecretIsPrinted(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	const value = "hunter2-is-my-word"
	encoded := base64.StdEncoding.EncodeToString([]byte(value))
	secret := func(rest string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shops}\n" + rest
	}
	for _, c := range []struct {
		name, kustomization, file, message string
	}{
		{"a Secret that is well", "resources: [s.yaml]\n", secret("stringData: {password: " + value + "}\n"), ""},
		{"wrong base64", "resources: [s.yaml]\n", secret("data: {password: " + value + "!}\n"), "is not base64"},
		{"a number", "resources: [s.yaml]\n", secret("stringData: {password: 4711081547110815}\n"), "is no text"},
		{"a truth", "resources: [s.yaml]\n", secret("stringData: {password: true}\n"), "is no text"},
		{"a list", "resources: [s.yaml]\n", secret("stringData: [" + value + "]\n"), "stringData"},
		{"a text for all of it", "resources: [s.yaml]\n", secret("data: " + value + "\n"), "data"},
		{"a deep value", "resources: [s.yaml]\n", secret("stringData: {a: {b: {c: " + value + "}}}\n"), "is no text"},
		{"an unknown field", "resources: [s.yaml]\n", secret("stringDate: {password: " + value + "}\n"), "unknown field"},
		{"a type that is a number", "resources: [s.yaml]\n", secret("type: 12\nstringData: {password: " + value + "}\n"), "type"},
		{"no name", "resources: [s.yaml]\n", "apiVersion: v1\nkind: Secret\nstringData: {password: " + value + "}\n", "metadata.name"},
		{"YAML that is none", "resources: [s.yaml]\n", secret("stringData: {password: " + value + "\n"), "is not YAML"},
		{"an anchor that is none", "resources: [s.yaml]\n", secret("stringData: {password: *" + value + "}\n"), "is not YAML"},
		{"text that is not UTF-8", "resources: [s.yaml]\n", secret("stringData: {password: \"" + value + "\xff\"}\n"), "is not UTF-8"},
		{"a literal without a key", "secretGenerator: [{name: s, literals: [" + value + "]}]\n", "", "literal"},
		{"literals that are none", "secretGenerator: [{name: s, literals: " + value + "}]\n", "", ""},
		{"a literal that is a number", "secretGenerator: [{name: s, literals: [4711081547110815]}]\n", "", ""},
		{"a file of variables that is none", "secretGenerator: [{name: s, envs: [s.yaml]}]\n", "=" + value + "\n" + value + "\n", ""},
		{"a key that is there twice", "secretGenerator: [{name: s, literals: [a=" + value + ", a=" + value + "]}]\n", "", ""},
		{"a patch of nothing", "resources: [s.yaml]\npatches: [{patch: '{apiVersion: v1, kind: Secret, metadata: {name: t}, stringData: {password: " + value + "}}'}]\n", secret(""), "patch"},
		{"a JSON patch of nothing", "resources: [s.yaml]\npatches: [{target: {kind: Secret}, patch: '[{op: replace, path: /stringData/x, value: " + value + "}]'}]\n", secret(""), ""},
		{"a patch that is none", "resources: [s.yaml]\npatches: [{target: {kind: Secret}, patch: 'stringData: {password: " + value + "'}]\n", secret(""), ""},
		{"two patches in one", "resources: [s.yaml]\npatches: [{path: s.yaml, patch: 'stringData: {password: " + value + "}'}]\n", secret(""), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, "")
			write(t, dir, "overlays/site/kustomization.yaml", c.kustomization)
			write(t, dir, "overlays/site/s.yaml", c.file)
			tree, overlays := open(t, dir)
			report := gitops.Validate(tree, overlays, schemas)
			printed, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			text := string(printed)
			if _, err := gitops.Render(tree, overlays[0]); err != nil {
				text += err.Error()
			}
			for _, word := range []string{value, "hunter2", encoded, "4711081547110815"} {
				if strings.Contains(text, word) {
					t.Errorf("%q is in %s", word, text)
				}
			}
			if !strings.Contains(text, c.message) {
				t.Errorf("%q is not in %s", c.message, text)
			}
			if c.name == "a Secret that is well" && len(report.Findings) > 0 {
				t.Errorf("findings %s", text)
			}
		})
	}
}

// TestWhatSOPSEncryptedIsLeftAlone has an encrypted Secret, as sops writes it, that is
// neither of the right type nor base64, and a Deployment that refers to a key of it.
func TestWhatSOPSEncryptedIsLeftAlone(t *testing.T) {
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	const sops = `sops:
  age: [{recipient: age1, enc: x}]
  lastmodified: "2026-01-01T00:00:00Z"
  mac: ENC[AES256_GCM,data:AAAA,type:str]
  encrypted_regex: ^(data|stringData)$
  version: 3.9.0
`
	encrypted := "apiVersion: v1\nkind: Secret\nmetadata: {name: till, namespace: shops}\ndata:\n  pw: ENC[AES256_GCM,data:Zm9v,iv:AA==,tag:AA==,type:str]\n  n: 12\n" + sops
	dir := repository(t, "")
	write(t, dir, "overlays/site/kustomization.yaml", "resources: [all.yaml, secret.yaml, device.yaml]\ncomponents: [../../components/fleet]\n")
	write(t, dir, "overlays/site/secret.yaml", encrypted)
	write(t, dir, "overlays/site/device.yaml", "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: hidden, namespace: shops}\nspec: {approved: \"ENC[AES256_GCM,data:AAAA,type:bool]\"}\n"+sops)
	without, rest, _ := strings.Cut(wavesAndSecrets, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: till,")
	_, rest, _ = strings.Cut(rest, "---\n")
	write(t, dir, "overlays/site/all.yaml", without+"---\n"+rest)
	tree, overlays := open(t, dir)
	if report := gitops.Validate(tree, overlays, schemas); len(report.Findings) > 0 || report.Overlays[0].Objects != 6 {
		t.Errorf("report %+v", report)
	}
	// The same without sops' own words is no encrypted Secret.
	write(t, dir, "overlays/site/secret.yaml", strings.Replace(encrypted, "  version: 3.9.0\n", "", 1))
	tree, overlays = open(t, dir)
	if report := gitops.Validate(tree, overlays, schemas); report.Count(gitops.Error) == 0 {
		t.Error("a Secret that only looks encrypted is taken")
	}
}
