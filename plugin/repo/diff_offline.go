package repo

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/preview"
)

// offline compares two revisions; without the second it is the working tree.
func (o *diffOptions) offline(from, to string, args []string) (Diff, error) {
	before, err := o.openSide(from)
	if err != nil {
		return Diff{}, err
	}
	after, err := o.openSide(to)
	if err != nil {
		return Diff{}, err
	}
	overlays, err := overlaysOf(before, after, args)
	if err != nil {
		return Diff{}, err
	}
	schemas, err := gitops.NewSchemas()
	if err != nil {
		return Diff{}, err
	}
	diff := Diff{From: before.name, To: after.name, Overlays: []OverlayDiff{}}
	for _, overlay := range overlays {
		was, err := before.objects(overlay)
		if err != nil {
			return Diff{}, err
		}
		is, err := after.objects(overlay)
		if err != nil {
			return Diff{}, err
		}
		out := newOverlayDiff(overlay)
		if out.Objects, err = gitops.CompareAll(was, is); err != nil {
			return Diff{}, err
		}
		if len(out.Objects) > 0 {
			if out.Deployments, err = offlineDevices(before, was, after, is, out.Objects, schemas); err != nil {
				return Diff{}, fmt.Errorf("overlay %s: %w", overlay.Name, err)
			}
		}
		diff.add(out)
	}
	return diff, nil
}

// overlaysOf is the overlay that was asked for, or all that one of the sides has.
func overlaysOf(before, after side, args []string) ([]gitops.Overlay, error) {
	if len(args) == 0 {
		return gitops.OverlaysOfEither(before.tree, after.tree)
	}
	overlay, err := after.tree.Find(args[0])
	if err == nil {
		return []gitops.Overlay{overlay}, nil
	}
	if overlay, errBefore := before.tree.Find(args[0]); errBefore == nil {
		return []gitops.Overlay{overlay}, nil
	}
	return nil, err
}

// objects are what an overlay comes to; none where there is no such overlay.
func (s side) objects(overlay gitops.Overlay) ([]*unstructured.Unstructured, error) {
	if _, err := s.tree.Find(overlay.Path); err != nil {
		return nil, nil
	}
	rendered, err := gitops.Render(s.tree, overlay)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", s.name, err)
	}
	return contents(rendered), nil
}

func contents(rendered gitops.Rendered) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, len(rendered.Objects))
	for i, object := range rendered.Objects {
		out[i] = &unstructured.Unstructured{Object: object.Content}
	}
	return out
}

func offlineDevices(before side, was []*unstructured.Unstructured, after side, is []*unstructured.Unstructured, differences []gitops.Difference, schemas *gitops.Schemas) ([]preview.Deployment, error) {
	from, err := declared(was, schemas)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", before.name, err)
	}
	to, err := declared(is, schemas)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", after.name, err)
	}
	out, err := preview.Changes(from, to, preview.Options{Offline: true, Touched: touched(differences)})
	if out == nil {
		out = []preview.Deployment{}
	}
	return out, err
}

// declared is the state of some objects, with the defaults that the API server fills in.
func declared(objects []*unstructured.Unstructured, schemas *gitops.Schemas) (preview.State, error) {
	state := preview.NewState()
	for _, object := range objects {
		object = object.DeepCopy()
		schemas.Default(object)
		if err := state.Set(object); err != nil {
			return state, err
		}
	}
	return state, nil
}
