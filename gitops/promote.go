package gitops

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// PromoteImages chooses, among the fields of PromoteOptions, what stands under
// images: of the overlay's kustomization.
const PromoteImages = "images"

// PromoteOptions say what is carried from one overlay to another.
type PromoteOptions struct {
	From, To Overlay
	// Deployment limits it to one; empty is all.
	Deployment string
	// Fields are PromoteImages, or paths of fields below spec.score.
	Fields []string
}

// Promotion is what one overlay is to take over from another.
type Promotion struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Images that change under images: of TO's kustomization.
	Images []ImageChange `json:"images"`
	// Changes are the fields of TO's objects that become others.
	Changes []FieldChange `json:"changes"`
	// Left are the fields of scores that differ still, old in TO and new in FROM: they
	// were not chosen.
	Left []FieldChange `json:"left"`
	// Files are the changes to the repository, nil for one that goes; none when there
	// is nothing to carry.
	Files map[string][]byte `json:"-"`
}

// promoting is a promotion on its way.
type promoting struct {
	PromoteOptions
	tree   *Tree
	future map[string][]byte
	from   Rendered
	before Rendered
}

// Promote finds out what TO has to take over to have the chosen fields as FROM has
// them, writes that into files of TO's folder, and makes sure by rendering it that
// TO then has them and that nothing else of it is another.
func Promote(tree *Tree, o PromoteOptions) (Promotion, error) {
	p := &promoting{PromoteOptions: o, tree: tree, future: map[string][]byte{}}
	if o.From.Path == o.To.Path {
		return Promotion{}, fmt.Errorf("%s and %s are the same overlay", o.From.Name, o.To.Name)
	}
	var err error
	if p.from, err = Render(tree, o.From); err != nil {
		return Promotion{}, err
	}
	if p.before, err = Render(tree, o.To); err != nil {
		return Promotion{}, err
	}
	if err := p.check(); err != nil {
		return Promotion{}, err
	}
	out := Promotion{From: o.From.Name, To: o.To.Name, Images: []ImageChange{}}
	if slices.Contains(o.Fields, PromoteImages) {
		if out.Images, err = p.images(); err != nil {
			return Promotion{}, err
		}
	}
	after, err := Render(tree.With(p.future), o.To)
	if err != nil {
		return Promotion{}, fmt.Errorf("with the images of %s: %w", o.From.Name, err)
	}
	chosen, _ := p.compare(after)
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		if err := p.patch(name, after.deployments()[name], chosen[name]); err != nil {
			return Promotion{}, err
		}
	}
	if after, err = Render(tree.With(p.future), o.To); err != nil {
		return Promotion{}, fmt.Errorf("with the fields of %s: %w", o.From.Name, err)
	}
	if out.Changes, err = p.verify(after); err != nil {
		return Promotion{}, err
	}
	_, left := p.compare(after)
	out.Left = []FieldChange{}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		out.Left = append(out.Left, fieldChanges(after.deployments()[name], left[name])...)
	}
	out.Files = p.future
	return out, nil
}

// check refuses what chooses nothing at all.
func (p *promoting) check() error {
	from, to := p.from.deployments(), p.before.deployments()
	if p.Deployment != "" {
		for _, in := range []struct {
			overlay Overlay
			has     map[string]Object
		}{{p.From, from}, {p.To, to}} {
			if _, ok := in.has[p.Deployment]; !ok {
				return fmt.Errorf("overlay %s has no fleet Deployment %s; there are: %s", in.overlay.Name, p.Deployment, listed(slices.Sorted(maps.Keys(in.has))))
			}
		}
	}
	if len(p.Fields) == 0 {
		return errors.New("no field is chosen")
	}
	for _, field := range p.Fields {
		if field == PromoteImages {
			continue
		}
		if field != "spec.score" && !strings.HasPrefix(field, "spec.score.") {
			return fmt.Errorf("field %q: promote carries %s and fields below spec.score, such as spec.score.podman.containers[hello].env", field, PromoteImages)
		}
		known := false
		for name := range from {
			if _, both := to[name]; both && (p.Deployment == "" || p.Deployment == name) {
				known = known || hasField(from[name], field) || hasField(to[name], field)
			}
		}
		if !known {
			return fmt.Errorf("field %q: no fleet Deployment that %s and %s both have has it", field, p.From.Name, p.To.Name)
		}
	}
	return nil
}

// hasField reports whether an object has a field with that path or below it.
func hasField(object Object, field string) bool {
	for _, leaf := range leaves(nil, object.Content) {
		if (difference{path: leaf}).within(field) {
			return true
		}
	}
	return false
}

// compare takes the scores of both overlays' Deployments apart: into the fields that
// were chosen, and those that were not.
func (p *promoting) compare(to Rendered) (chosen, left map[string][]difference) {
	chosen, left = map[string][]difference{}, map[string][]difference{}
	have, namesFrom, namesTo := to.deployments(), p.from.configured(), to.configured()
	for name, object := range p.from.deployments() {
		other, both := have[name]
		if !both || p.Deployment != "" && p.Deployment != name {
			continue
		}
		for _, d := range differences([]step{{name: "spec"}, {name: "score"}}, scoreOf(other), scoreOf(object)) {
			switch {
			case sameGenerated(d.new, d.old, namesFrom, namesTo):
			case slices.ContainsFunc(p.Fields, d.within):
				chosen[name] = append(chosen[name], d)
			default:
				left[name] = append(left[name], d)
			}
		}
	}
	return chosen, left
}

func scoreOf(object Object) any {
	spec, _ := object.Content["spec"].(map[string]any)
	return spec["score"]
}

// verify makes sure that TO has the chosen fields, and no other change.
func (p *promoting) verify(after Rendered) ([]FieldChange, error) {
	if missed, _ := p.compare(after); len(missed) > 0 {
		name := slices.Sorted(maps.Keys(missed))[0]
		return nil, fmt.Errorf("fleet Deployment %s: a patch in %s does not bring %s to what %s has: something that comes after it sets the field, or components/fleet is not listed, which has lists merged; change it by hand",
			name, p.To.Path, missed[name][0], p.From.Name)
	}
	names := map[string]bool{} // of the Deployments that may change
	for name, object := range after.deployments() {
		names[describe(object)] = p.Deployment == "" || p.Deployment == name
	}
	images := slices.Contains(p.Fields, PromoteImages)
	changes := []FieldChange{}
	changed := changedObjects(p.before, after)
	for _, what := range slices.Sorted(maps.Keys(changed)) {
		for _, d := range changed[what] {
			image := images && (names[what] || p.Deployment == "") && isImage(d)
			if !image && !(names[what] && slices.ContainsFunc(p.Fields, d.within)) {
				return nil, fmt.Errorf("it would change %s of %s too, which was not chosen: change %s by hand, or choose more", orWhole(d), what, p.To.Path)
			}
			changes = append(changes, FieldChange{Object: what, Field: d.String(), Old: d.old, New: d.new})
		}
	}
	return changes, nil
}

// isImage reports whether all that differs are images.
func isImage(d difference) bool {
	return len(d.path) > 0 && d.path[len(d.path)-1].name == "image" || onlyImages(d.old, d.new)
}

func onlyImages(old, new any) bool {
	switch old := old.(type) {
	case map[string]any:
		other, ok := new.(map[string]any)
		if !ok || len(old) != len(other) {
			return false
		}
		for name, value := range old {
			if _, ok := other[name]; !ok || name != "image" && !onlyImages(value, other[name]) {
				return false
			}
		}
		return true
	case []any:
		other, ok := new.([]any)
		if !ok || len(old) != len(other) {
			return false
		}
		for i := range old {
			if !onlyImages(old[i], other[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(old, new)
}

func orWhole(d difference) string { return first(d.String(), "the whole") }

func fieldChanges(object Object, found []difference) []FieldChange {
	var out []FieldChange
	for _, d := range found {
		out = append(out, FieldChange{Object: describe(object), Field: d.String(), Old: d.old, New: d.new})
	}
	return out
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
