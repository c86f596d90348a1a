package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// RollbackOptions say what is to be again what it was.
type RollbackOptions struct {
	// Deployment is the name of the fleet Deployment.
	Deployment string
	// Overlay is empty for the only one that has it.
	Overlay string
	// Revision is what Git calls a revision: a commit, a tag, HEAD~2.
	Revision string
	// WithOthers lets objects change that are not the Deployment's.
	WithOthers bool
}

// Rollback is what makes a Deployment what it was at a revision.
type Rollback struct {
	Deployment string `json:"deployment"`
	Overlay    string `json:"overlay"`
	// Commit is the revision's, with the first line of its message.
	Commit  string `json:"commit"`
	Subject string `json:"subject"`
	// Changes are the fields of the Deployment that become others.
	Changes []FieldChange `json:"changes"`
	// Others are the other objects that change too, each with its overlay.
	Others []string `json:"others"`
	// Files are the changes to the repository, nil for one that goes; none when the
	// Deployment is what it was.
	Files map[string][]byte `json:"-"`
}

// OthersError says that a rollback would change more than was asked for.
type OthersError struct{ Rollback Rollback }

// Error names the other objects.
func (e *OthersError) Error() string {
	const most = 10
	names := e.Rollback.Others
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	return fmt.Sprintf("other objects would change as well, for they are made of the same files (%s): %s%s; --with-others takes them along",
		strings.Join(slices.Sorted(maps.Keys(e.Rollback.Files)), ", "), strings.Join(names, ", "), more)
}

// rolling is a rollback on its way.
type rolling struct {
	RollbackOptions
	now, then *Tree
	overlay   Overlay
	wanted    deploymentState
	before    Rendered
}

// deploymentState is what a Deployment does on devices.
type deploymentState struct {
	spec any
	// configured are the ConfigMaps and Secrets that it refers to.
	configured map[string]any
}

// Rollback finds the least that has to be again as it was at the revision for the
// Deployment to be what it was: files, or the entries under images: of a
// kustomization alone where that is enough. It is rendered to make sure.
func (b *Branch) Rollback(dir string, o RollbackOptions) (Rollback, error) {
	then, err := OpenRevision(dir, o.Revision)
	if err != nil {
		return Rollback{}, b.explainShallow(err)
	}
	hash, err := b.repo.ResolveRevision(plumbing.Revision(o.Revision))
	if err != nil {
		return Rollback{}, fmt.Errorf("resolve revision %q: %w", o.Revision, err)
	}
	commit, err := b.repo.CommitObject(*hash)
	if err != nil {
		return Rollback{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	r := &rolling{RollbackOptions: o, now: b.Tree, then: then}
	if err := r.findOverlay(); err != nil {
		return Rollback{}, err
	}
	out := Rollback{Deployment: o.Deployment, Overlay: r.overlay.Name, Commit: hash.String(), Subject: firstLine(commit.Message)}
	if out.Files, err = r.files(); err != nil {
		return Rollback{}, err
	}
	if err := r.tell(&out); err != nil {
		return Rollback{}, err
	}
	if len(out.Others) > 0 && !o.WithOthers {
		return out, &OthersError{Rollback: out}
	}
	return out, nil
}

// explainShallow adds why a revision may be missing.
func (b *Branch) explainShallow(err error) error {
	if boundary, shallowErr := b.store.Shallow(); shallowErr == nil && len(boundary) > 0 {
		return fmt.Errorf("%w; the clone is shallow: git fetch --unshallow brings the older commits", err)
	}
	return err
}

func (r *rolling) findOverlay() error {
	if r.Overlay != "" {
		var err error
		r.overlay, err = r.now.Find(r.Overlay)
		return err
	}
	all, err := r.now.Overlays()
	if err != nil {
		return err
	}
	var found []string
	var broken []error
	for _, overlay := range all {
		rendered, err := Render(r.now, overlay)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		if _, ok := rendered.deployments()[r.Deployment]; ok {
			found = append(found, overlay.Name)
			r.overlay = overlay
		}
	}
	switch {
	case len(found) > 1:
		return fmt.Errorf("overlays %s have a fleet Deployment %s: say which with --overlay", strings.Join(found, ", "), r.Deployment)
	case len(found) == 0:
		return errors.Join(append([]error{fmt.Errorf("no overlay has a fleet Deployment %s now; --overlay says which had it", r.Deployment)}, broken...)...)
	}
	return nil
}

func (r *rolling) stateIn(rendered Rendered) (deploymentState, bool) {
	object, ok := rendered.deployments()[r.Deployment]
	if !ok {
		return deploymentState{}, false
	}
	state := deploymentState{spec: object.Content["spec"], configured: map[string]any{}}
	names := map[string]bool{}
	for _, leaf := range leaves(nil, state.spec) {
		if text, ok := leaf[len(leaf)-1].value.(string); ok {
			names[text] = true
		}
	}
	for _, other := range rendered.Objects {
		if gvk := other.gvk(); gvk.Group == "" && (gvk.Kind == "ConfigMap" || gvk.Kind == "Secret") && names[other.meta().GetName()] {
			state.configured[describe(other)] = map[string]any{"data": other.Content["data"], "binaryData": other.Content["binaryData"], "stringData": other.Content["stringData"]}
		}
	}
	return state, true
}

// reached reports whether files make the Deployment what it was.
func (r *rolling) reached(files map[string][]byte) bool {
	rendered, err := Render(r.now.With(files), r.overlay)
	if err != nil {
		return false // as good as not there
	}
	state, ok := r.stateIn(rendered)
	return ok && reflect.DeepEqual(state, r.wanted)
}

// files are those that have to be as they were; none when nothing has to.
func (r *rolling) files() (map[string][]byte, error) {
	overlayThen, err := r.then.Find(r.overlay.Path)
	if err != nil {
		return nil, err
	}
	was, readThen, err := renderNoting(r.then, overlayThen)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", r.Revision, err)
	}
	wanted, ok := r.stateIn(was)
	if !ok {
		return nil, fmt.Errorf("overlay %s had no fleet Deployment %s at %s", r.overlay.Name, r.Deployment, r.Revision)
	}
	r.wanted = wanted
	// What can't be built now may be what is rolled back.
	var readNow map[string][]byte
	if r.before, readNow, err = renderNoting(r.now, r.overlay); err == nil && r.reached(nil) {
		return map[string][]byte{}, nil
	}
	units := map[string]restore{}
	for _, read := range []map[string][]byte{readNow, readThen} {
		for name := range read {
			if old, differs := r.old(name); differs {
				units[name] = restore{file: name, data: old}
			}
		}
	}
	if !r.reached(apply(slices.Collect(maps.Values(units)))) {
		return nil, fmt.Errorf("fleet Deployment %s can't be made what it was at %s from the files that overlay %s was made of; bring it back by hand", r.Deployment, r.Revision, r.overlay.Name)
	}
	all := r.minimal(nil, slices.SortedFunc(maps.Values(units), func(a, b restore) int { return strings.Compare(a.file, b.file) }))
	return apply(r.finer(all)), nil
}

// old is what a file was, nil when there was none; it tells whether it is now another.
func (r *rolling) old(name string) ([]byte, bool) {
	old, errThen := r.then.ReadFile(name)
	now, errNow := r.now.ReadFile(name)
	if errThen != nil {
		return nil, errNow == nil
	}
	return old, errNow != nil || !bytes.Equal(old, now)
}

// restore is a file that is to be as it was, as a whole or in parts.
type restore struct {
	file string
	data []byte
}

func apply(units []restore) map[string][]byte {
	files := map[string][]byte{}
	for _, unit := range units {
		files[unit.file] = unit.data
	}
	return files
}

// minimal leaves out, of the group, all without which the Deployment is still what it
// was; kept are the ones that are needed in any case.
func (r *rolling) minimal(kept, group []restore) []restore {
	if len(group) == 0 || r.reached(apply(kept)) {
		return kept
	}
	if len(group) == 1 {
		return append(slices.Clone(kept), group[0])
	}
	first, second := group[:len(group)/2], group[len(group)/2:]
	// What of the second half is needed beside the whole first, and then of the first
	// beside that.
	needed := r.minimal(slices.Concat(kept, first), second)[len(kept)+len(first):]
	return r.minimal(slices.Concat(kept, needed), first)
}
