package listing

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// things is a lister of a kind that has nothing but a name.
func things(t *testing.T) *lister[string] {
	t.Helper()
	env := cli.NewEnv(genericiooptions.IOStreams{Out: &bytes.Buffer{}})
	env.Getenv = func(string) string { return "" }
	o := &Options{}
	o.AddFlags(&cobra.Command{}, "thing", "metadata.name=x")
	return &lister[string]{Options: o, env: env, aligner: newAligner(), Kind: Kind[string]{
		Columns: []metav1.TableColumnDefinition{{Name: "Name"}},
		Cells:   func(name string, _ time.Time) []any { return []any{name} },
		Tone:    func(string, time.Time) screen.Tone { return screen.Plain },
		Summary: func(_ screen.Style, all []string, _ time.Time) string { return screen.Plural(len(all), "thing") },
	}}
}

func thing(name, version, value string) item[string] {
	object := &unstructured.Unstructured{Object: map[string]any{"value": value}}
	object.SetName(name)
	object.SetResourceVersion(version)
	return item[string]{object, name}
}

func TestLiveScreenShowsWhatFits(t *testing.T) {
	var items []item[string]
	for i := range 9 {
		items = append(items, thing(fmt.Sprint("n", i), "1", ""))
	}
	for name, c := range map[string]struct {
		items []item[string]
		lost  error
		lines int
		want  []string
	}{
		"all that there is":     {items[:2], nil, 24, []string{"NAME", "n0", "n1", "", "2 things"}},
		"the first ones":        {items, nil, 6, []string{"NAME", "n0", "n1", "n2", "", "9 things  (6 more)"}},
		"a lost connection too": {items, errors.New("down\x1b[2J"), 6, []string{"NAME", "n0", "n1", "", "9 things  (7 more)", "# connection lost, trying again: down?[2J"}},
		"nothing":               {nil, nil, 24, []string{"0 things"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := things(t).page(c.items, c.lost, 80, c.lines)
			if want := strings.Join(c.want, "\n"); err != nil || got != want {
				t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
}

func TestDifferencesGoByWhatObjectsAre(t *testing.T) {
	l := things(t)
	shown := known[string]{}
	for _, i := range []item[string]{thing("same", "1", "x"), thing("other", "1", "x"), thing("gone", "1", "x")} {
		shown[client.ObjectKeyFromObject(i.object)] = i
	}
	added, modified, deleted := l.differences(shown, []item[string]{thing("same", "900", "x"), thing("other", "901", "y"), thing("new", "902", "x")})
	var got []string
	for _, list := range [][]item[string]{added, modified, deleted} {
		for _, i := range list {
			got = append(got, i.value)
		}
	}
	if want := "new other gone"; strings.Join(got, " ") != want {
		t.Errorf("added, modified and deleted are %q, want %q", got, want)
	}
}
