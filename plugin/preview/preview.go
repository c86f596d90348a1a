package preview

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/roster"
)

// Options say what is known of the devices.
type Options struct {
	// Offline tells that nothing is known but what is declared: every device counts as
	// reachable, runs the old revision, and takes part unless it is shut out.
	Offline bool
	// Touched are the Deployments that have changed in whatever way. They are told of even
	// where no device is reached.
	Touched []types.NamespacedName
}

// Changes tells, for each Deployment that the change from one state to the other
// concerns, which devices it reaches, in the order of their names.
func Changes(before, after State, o Options) ([]Deployment, error) {
	c := &comparison{before: newSide(before, o), after: newSide(after, o), options: o}
	keys := maps.Clone(before.Deployments)
	maps.Copy(keys, after.Deployments)
	var out []Deployment
	for _, key := range slices.SortedFunc(maps.Keys(keys), byName) {
		d, err := c.deployment(key)
		if err != nil {
			return nil, fmt.Errorf("fleet Deployment %s: %w", key, err)
		}
		if d.Restarts || len(d.Devices()) > 0 || slices.Contains(o.Touched, key) {
			out = append(out, d)
		}
	}
	return out, nil
}

func byName(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

type comparison struct {
	before, after *side
	options       Options
}

// side is a State, with who has which device.
type side struct {
	State
	roster *roster.Roster
}

func newSide(s State, o Options) *side {
	out := &side{State: s, roster: roster.New()}
	for _, device := range s.Devices {
		if o.Offline && device.Spec.Approved == nil {
			device = device.DeepCopy()
			device.Spec.Approved = new(true)
		}
		out.roster.Set(device)
	}
	return out
}

// members are the devices that a Deployment selects, in the order in which they are told.
func (s *side) members(d *v1alpha1.Deployment) ([]roster.Member, error) {
	if d == nil {
		return nil, nil
	}
	key := types.NamespacedName{Namespace: d.Namespace, Name: d.Name}
	if err := s.roster.Select(key, &d.Spec.TargetSelector); err != nil {
		return nil, fmt.Errorf("spec.targetSelector: %w", err)
	}
	return s.roster.Members(key), nil
}

// revision is what a Deployment is to run.
type revision struct {
	content resolve.Content
	// name is the revision's, and shown is that too where the operator would call it so.
	name, shown string
}

func (s *side) revision(d *v1alpha1.Deployment) (revision, error) {
	if d == nil {
		return revision{}, nil
	}
	sources := resolve.Sources{}
	complete := len(resolve.SecretReferences(d.Spec.Score)) == 0
	sources.ConfigMaps, complete = find(s.ConfigMaps, d.Namespace, resolve.References(d.Spec.Score), complete)
	sources.Secrets, _ = find(s.Secrets, d.Namespace, resolve.SecretReferences(d.Spec.Score), complete)
	r := revision{content: resolve.ContentOf(d.Spec.Score, sources)}
	var err error
	if r.name, err = r.content.Name(d.Name); err != nil {
		return revision{}, err
	}
	if complete {
		r.shown = r.name
	}
	return r, nil
}

// find takes those of some names; complete goes on being true while all are there.
func find[T any](all map[types.NamespacedName]T, namespace string, names []string, complete bool) (map[string]T, bool) {
	out := map[string]T{}
	for _, name := range names {
		found, ok := all[types.NamespacedName{Namespace: namespace, Name: name}]
		if ok {
			out[name] = found
		}
		complete = complete && ok
	}
	return out, complete
}

// deployment tells what becomes of the devices of one.
func (c *comparison) deployment(key types.NamespacedName) (Deployment, error) {
	was, is := c.before.Deployments[key], c.after.Deployments[key]
	out := Deployment{Namespace: key.Namespace, Name: key.Name, Because: []string{}, Waves: []Wave{}}
	from, err := c.before.revision(was)
	if err != nil {
		return out, err
	}
	to, err := c.after.revision(is)
	if err != nil {
		return out, err
	}
	old, err := c.before.members(was)
	if err != nil {
		// It selects nothing now, and what it did nobody can tell.
		old = nil
	}
	members, err := c.after.members(is)
	if err != nil {
		return out, err
	}
	out.From, out.To = from.shown, to.shown
	if out.From == "" && was != nil {
		out.From = was.Status.UpdateRevision
	}
	out.Restarts = was != nil && is != nil && from.name != to.name
	out.Removed = without(old, members)
	if is != nil {
		out.Paused, out.Suspended = is.Spec.Paused, is.Spec.Suspend
		r := run{comparison: c, deployment: is, from: from, to: to, was: was != nil, old: byID(old), members: members}
		if err := r.plan(&out); err != nil {
			return out, err
		}
	}
	if out.To == "" && !out.Restarts && is != nil {
		out.To = out.From
	}
	out.Because = because(was, is, from.content, to.content, len(out.Devices()) > 0)
	return out, nil
}

// because names what makes a difference.
func because(was, is *v1alpha1.Deployment, from, to resolve.Content, reaches bool) []string {
	switch {
	case was == nil:
		return []string{"new"}
	case is == nil:
		return []string{"removed"}
	}
	out := []string{}
	if !equality.Semantic.DeepEqual(was.Spec.Score, is.Spec.Score) {
		out = append(out, "score")
	}
	for _, name := range slices.Sorted(maps.Keys(to.ConfigMaps)) {
		if now, known := from.ConfigMaps[name]; known && !equality.Semantic.DeepEqual(now, to.ConfigMaps[name]) {
			out = append(out, "ConfigMap "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to.Secrets)) {
		if now, known := from.Secrets[name]; known && !maps.Equal(now, to.Secrets[name]) {
			out = append(out, "Secret "+name)
		}
	}
	if !equality.Semantic.DeepEqual(was.Spec.TargetSelector, is.Spec.TargetSelector) {
		out = append(out, "targetSelector")
	}
	if len(out) == 0 && reaches {
		out = append(out, "devices")
	}
	return out
}

// reachable reports whether a device would be told at once.
func (c *comparison) reachable(key types.NamespacedName) bool {
	device := c.after.Devices[key]
	return c.options.Offline || device != nil && meta.IsStatusConditionTrue(device.Status.Conditions, v1alpha1.ConditionReady)
}

func byID(members []roster.Member) map[string]*roster.Device {
	out := make(map[string]*roster.Device, len(members))
	for _, m := range members {
		out[string(m.ID)] = m.Device
	}
	return out
}

// without are the devices of a list that are not in another, sorted.
func without(members, others []roster.Member) []string {
	stay := byID(others)
	var out []string
	for _, m := range members {
		if stay[string(m.ID)] == nil {
			out = append(out, string(m.ID))
		}
	}
	slices.Sort(out)
	return out
}
