package preview_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/preview"
)

// fleet is six devices, a Deployment of waves, and a ConfigMap that it refers to.
const fleet = `
apiVersion: v1
kind: ConfigMap
metadata: {namespace: shops, name: settings}
data: {COLOR: red}
---
apiVersion: v1
kind: Secret
metadata: {namespace: shops, name: keys}
stringData: {KEY: first}
---
apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata: {namespace: shops, name: web}
spec:
  targetSelector: {matchLabels: {run: "yes"}}
  rollout:
    waves:
    - {name: canary, selector: {matchLabels: {canary: "yes"}}, soak: 10m}
    - {name: half, limit: 50%, approval: Manual}
  score:
    podman:
      containers:
      - name: web
        image: example.org/web:1
        env:
        - {name: SITE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['site']"}}}
        envFrom:
        - configMapRef: {name: settings}
`

func devices() string {
	var b strings.Builder
	for i := 1; i <= 6; i++ {
		canary := "no"
		if i == 1 {
			canary = "yes"
		}
		fmt.Fprintf(&b, "---\napiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {namespace: shops, name: d%d, labels: {run: \"yes\", canary: \"%s\", site: s%d}}\nspec: {approved: true}\n", i, canary, i)
	}
	return b.String()
}

func state(t *testing.T, text string) preview.State {
	t.Helper()
	schemas, err := gitops.NewSchemas()
	if err != nil {
		t.Fatal(err)
	}
	out := preview.NewState()
	for _, doc := range strings.Split(text, "---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		if len(o.Object) == 0 {
			continue
		}
		schemas.Default(o)
		if err := out.Set(o); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// words are a change in a line that can be compared.
func words(list []preview.Deployment) string {
	var out []string
	for _, d := range list {
		text := d.Name + " because of " + strings.Join(d.Because, ",")
		for _, w := range d.Waves {
			text += fmt.Sprintf("; %s %d/%d", w.Name, w.Number, w.Of)
			if w.AwaitsApproval {
				text += " awaits approval"
			}
			if w.Soak != nil {
				text += " soaks " + w.Soak.Duration.String()
			}
			text += fmt.Sprint(" ", w.Devices)
		}
		for _, more := range []struct {
			what    string
			devices []string
		}{{"offline", d.Offline}, {"held", d.Held}, {"new", d.New}, {"removed", d.Removed}} {
			if len(more.devices) > 0 {
				text += fmt.Sprint("; ", more.what, " ", more.devices)
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, "\n")
}

func TestChanges(t *testing.T) {
	all := fleet + devices()
	replace := func(pairs ...string) string {
		text := all
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not there", pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		return text
	}
	// What the planner makes of the order of the six devices: the canary, two that are half
	// of four (limit: half of five, rounded up), the rest.
	const rollout = "; canary 1/3 soaks 10m0s [d1]; half 2/3 awaits approval [%s]; rest 3/3 [%s]"
	touched := []types.NamespacedName{{Namespace: "shops", Name: "web"}}
	for _, c := range []struct {
		name          string
		before, after string
		touched       bool
		want          string
	}{
		{name: "nothing changes", before: all, after: all, want: ""},
		{name: "rollout settings reach nobody", before: all, after: replace("soak: 10m", "soak: 20m"), touched: true, want: "web because of "},
		{name: "an image reaches everybody in waves", before: all, after: replace("web:1", "web:2"), want: "web because of score" + rollout},
		{name: "a ConfigMap is a revision too", before: all, after: replace("COLOR: red", "COLOR: blue"), want: "web because of ConfigMap settings" + rollout},
		{name: "a Secret that nobody refers to reaches nobody", before: all, after: replace("KEY: first", "KEY: second"), want: ""},
		{name: "a label that the score refers to reaches its device, and no approval is asked for", before: all, after: replace("site: s3", "site: x"), want: "web because of devices; *[d3]"},
		{name: "a label that moves a device into another wave reaches nobody", before: all, after: replace(`canary: "no", site: s3`, `canary: "yes", site: s3`), want: ""},
		{name: "a label takes a device out", before: all, after: replace(`run: "yes", canary: "no", site: s2`, `run: "no", canary: "no", site: s2`), want: "web because of devices; removed [d2]"},
		{name: "a device that is held", before: all, after: replace("web:1", "web:2", "site: s1}}\nspec: {approved: true}", "site: s1}}\nspec: {approved: true, cordoned: true}"), want: "web because of score; half*; held [d1]"},
		{name: "a device that is shut out", before: all, after: replace("site: s1}}\nspec: {approved: true}", "site: s1}}\nspec: {approved: false}"), want: "web because of devices; removed [d1]"},
		{name: "a Deployment that is removed", before: all, after: devices(), want: "web because of removed; removed [d1 d2 d3 d4 d5 d6]"},
		{name: "a Deployment that is new", before: devices(), after: all, want: "web because of new" + rollout + "; new [d1 d2 d3 d4 d5 d6]"},
		{name: "another selector", before: all, after: replace(`{matchLabels: {run: "yes"}}`, `{matchLabels: {site: s4}}`), want: "web because of targetSelector; removed [d1 d2 d3 d5 d6]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := preview.Options{Offline: true}
			if c.touched {
				o.Touched = touched
			}
			got, err := preview.Changes(state(t, c.before), state(t, c.after), o)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.want; !matches(words(got), want) {
				t.Errorf("got  %s\nwant %s", words(got), want)
			}
		})
	}
}

// matches compares with a pattern in which %s and * stand for anything.
func matches(got, pattern string) bool {
	parts := strings.Split(strings.ReplaceAll(pattern, "%s", "*"), "*")
	if len(parts) == 1 {
		return got == pattern
	}
	if !strings.HasPrefix(got, parts[0]) || !strings.HasSuffix(got, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts {
		_, rest, ok := strings.Cut(got, part)
		if !ok {
			return false
		}
		got = rest
	}
	return true
}

// TestSecretsChangeTheRevision has one that the score refers to count, and no revision
// named after it.
func TestSecretsChangeTheRevision(t *testing.T) {
	all := strings.Replace(fleet, "configMapRef: {name: settings}", "secretRef: {name: keys}", 1) + devices()
	got, err := preview.Changes(state(t, all), state(t, strings.Replace(all, "KEY: first", "KEY: second", 1)), preview.Options{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !got[0].Restarts || got[0].From != "" || got[0].To != "" || fmt.Sprint(got[0].Because) != "[Secret keys]" || len(got[0].Devices()) != 6 {
		t.Errorf("got %+v", got)
	}
}

// TestUnreachableDevicesAreApart goes by what the cluster says of the devices.
func TestUnreachableDevicesAreApart(t *testing.T) {
	ready := func(text string) string {
		return strings.ReplaceAll(text, "site: s2}}\nspec: {approved: true}", "site: s2}}\nspec: {approved: true}\nstatus: {conditions: [{type: Ready, status: \"True\"}]}")
	}
	all := ready(fleet + devices())
	got, err := preview.Changes(state(t, all), state(t, strings.Replace(all, "web:1", "web:2", 1)), preview.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "web because of score; half 2/3 awaits approval [d2]; offline [d1 d3 d4 d5 d6]"; words(got) != want {
		t.Errorf("got  %s\nwant %s", words(got), want)
	}
}
