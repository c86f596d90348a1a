package gitops

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tell fills in what the files change: of the Deployment, and of everything else in
// this overlay and in all others.
func (r *rolling) tell(out *Rollback) error {
	out.Changes, out.Others = []FieldChange{}, []string{}
	if len(out.Files) == 0 {
		return nil
	}
	future := r.now.With(out.Files)
	overlays, err := r.now.Overlays()
	if err != nil {
		return err
	}
	if !slices.Contains(overlays, r.overlay) {
		overlays = append(overlays, r.overlay)
	}
	for _, overlay := range overlays {
		before, read, broken := renderNoting(r.now, overlay)
		// Of what can't be built now nothing can be lost.
		if broken != nil && overlay != r.overlay || broken == nil && !touches(out.Files, read) {
			continue
		}
		after, err := Render(future, overlay)
		if err != nil {
			out.Others = append(out.Others, fmt.Sprintf("overlay %s, which could not be built any more (%v)", overlay.Name, err))
			continue
		}
		own := map[string]bool{}
		if overlay == r.overlay {
			own = r.own(before, after)
		}
		changed := changedObjects(before, after)
		for _, what := range slices.Sorted(maps.Keys(changed)) {
			switch {
			case own[what]:
				for _, d := range changed[what] {
					out.Changes = append(out.Changes, FieldChange{Object: what, Field: d.String(), Old: d.old, New: d.new})
				}
			case broken == nil:
				out.Others = append(out.Others, fmt.Sprintf("%s of overlay %s", what, overlay.Name))
			}
		}
	}
	return nil
}

func touches(files, read map[string][]byte) bool {
	for name := range files {
		if _, ok := read[name]; ok {
			return true
		}
	}
	return false
}

// own are the Deployment, and the ConfigMaps and Secrets that it refers to before or
// after.
func (r *rolling) own(renders ...Rendered) map[string]bool {
	out := map[string]bool{}
	for _, rendered := range renders {
		if object, ok := rendered.deployments()[r.Deployment]; ok {
			out[describe(object)] = true
		}
		if state, ok := r.stateIn(rendered); ok {
			for name := range state.configured {
				out[name] = true
			}
		}
	}
	return out
}

// Message is what the commit says, unless somebody says something else.
func (r Rollback) Message() string {
	var text strings.Builder
	short := r.Commit[:7]
	fmt.Fprintf(&text, "Roll %s back to %s\n\n", r.Deployment, short)
	fmt.Fprintf(&text, "In overlay %s it is again what it was at\n%s %s\n\n", r.Overlay, short, r.Subject)
	for _, change := range r.Changes {
		if change.Field == "" {
			fmt.Fprintf(&text, "%s: %s\n", change.Object, fromTo(change))
			continue
		}
		fmt.Fprintf(&text, "%s: %s: %s\n", change.Object, change.Field, fromTo(change))
	}
	for _, other := range r.Others {
		fmt.Fprintf(&text, "With it: %s\n", other)
	}
	return text.String()
}
