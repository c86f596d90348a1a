package top

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/screen"
)

// field of a detail; the value may be hostile.
type field struct {
	name, value string
	tone        screen.Tone
}

func keyOf(o client.Object) key { return key{o.GetNamespace(), o.GetName()} }

// moment is how long ago something was, and when.
func moment(now time.Time, t *metav1.MicroTime) string {
	if t == nil {
		return "never"
	}
	return screen.Ago(now, t.Time) + ", at " + t.UTC().Format(time.RFC3339)
}

func labelsText(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return strings.Join(pairs, ", ")
}
