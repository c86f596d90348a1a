package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/roster"
)

const (
	// LabelDeployment names, on a ControllerRevision, the Deployment that it is of.
	LabelDeployment = "fleet.nationtech.io/deployment"
	// annotationSince is when a revision was last wanted anew: its creation, or
	// when the spec went back to it.
	annotationSince = "fleet.nationtech.io/since"
	// annotationCommit is the Git commit that a revision came from.
	annotationCommit = "fleet.nationtech.io/commit"
	// annotationRolledBack is when a revision was rolled back. It is not tried again
	// until it is wanted anew. This is the one fact of a rollout that the devices
	// can't tell: what they were told is the current revision again.
	annotationRolledBack = "fleet.nationtech.io/rolled-back"
	// annotationCompleted is when every reachable device ran a revision for the first
	// time since it was wanted.
	annotationCompleted = "fleet.nationtech.io/completed"
)

// update is the revision that every device should run, and the one that they ran
// before.
type update struct {
	*resolved
	revision *appsv1.ControllerRevision
	// current is nil when there is none, when it is the same, and when it can't be
	// resolved.
	current *resolved
}

// rolledBack reports whether the revision has failed and is not to be tried again.
func (u *update) rolledBack(obj *v1alpha1.Deployment) bool {
	return u.revision.Annotations[annotationRolledBack] != "" && obj.Status.CurrentRevision != u.name
}

// resolved is a score and what it comes to for the devices.
type resolved struct {
	name     string
	template *resolve.Template
	mu       sync.Mutex
	variants map[string]*variant
}

// variant is what devices are told that do not differ in what the score refers to.
type variant struct {
	score  contracts.ReconcileScore
	digest string
}

func (r *resolved) variant(d *roster.Device) *variant {
	device := resolve.Device{Name: d.ID, Namespace: d.Namespace, Labels: d.Labels}
	key := r.template.Variant(device)
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.variants[key]; ok {
		return v
	}
	// New has tried it; only values differ between devices.
	score, err := r.template.For(device)
	if err != nil {
		score = contracts.ReconcileScore{}
	}
	v := &variant{score: score, digest: score.Digest()}
	r.variants[key] = v
	return v
}

// templates keeps, of each Deployment, the last that were resolved: to resolve them
// for every device at every event would cost more than everything else.
type templates struct {
	mu     sync.Mutex
	latest map[types.NamespacedName]map[string]*resolved
}

// get returns a revision that was resolved before, or resolves it.
func (t *templates) get(key types.NamespacedName, revision string, make func() (*resolve.Template, error)) (*resolved, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.latest[key][revision]; r != nil {
		return r, nil
	}
	template, err := make()
	if err != nil {
		return nil, err
	}
	if t.latest == nil {
		t.latest = map[types.NamespacedName]map[string]*resolved{}
	}
	if t.latest[key] == nil {
		t.latest[key] = map[string]*resolved{}
	}
	r := &resolved{name: revision, template: template, variants: map[string]*variant{}}
	t.latest[key][revision] = r
	return r, nil
}

// keep drops what was resolved and is neither of these revisions.
func (t *templates) keep(key types.NamespacedName, revisions ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.latest[key], func(name string, _ *resolved) bool { return !slices.Contains(revisions, name) })
}

func (t *templates) forget(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.latest, key)
}

// errBehind tells that the cache has not caught up with what was written.
var errBehind = errors.New("the cache is behind")

// update makes sure that the revision of the spec exists and returns it.
func (r *Reconciler) update(ctx context.Context, obj *v1alpha1.Deployment) (*update, error) {
	key := client.ObjectKeyFromObject(obj)
	configMaps, err := r.configMaps(ctx, obj.Namespace, obj.Spec.Score)
	if err != nil {
		return nil, err
	}
	secrets, err := r.secrets(ctx, obj.Namespace, obj.Spec.Score)
	if err != nil {
		return nil, err
	}
	sources := resolve.Sources{ConfigMaps: configMaps, Secrets: secrets}
	content := resolve.ContentOf(obj.Spec.Score, sources)
	name, err := content.Name(obj.Name)
	if err != nil {
		return nil, err
	}
	u := &update{}
	if u.resolved, err = r.templates.get(key, name, func() (*resolve.Template, error) {
		return resolve.New(obj.Namespace, obj.Spec.Score, sources)
	}); err != nil {
		return nil, err
	}
	if u.revision, err = r.revision(ctx, obj, name, content); err != nil {
		return nil, err
	}
	r.templates.keep(key, name, obj.Status.CurrentRevision)
	if current := obj.Status.CurrentRevision; current != "" && current != name {
		u.current, err = r.templates.get(key, current, func() (*resolve.Template, error) { return r.kept(ctx, obj, current) })
		if resolve.IsNotFound(err) || resolve.IsInvalid(err) || resolve.IsChanged(err) || apierrors.IsNotFound(err) {
			// There is nothing to go back to, and the rollout goes on without.
			ctrl.LoggerFrom(ctx).Error(err, "the current revision can't be told again", "revision", current)
			err = nil
		}
	}
	return u, err
}

// kept resolves a revision from what its ControllerRevision has kept.
func (r *Reconciler) kept(ctx context.Context, obj *v1alpha1.Deployment, name string) (*resolve.Template, error) {
	revision := &appsv1.ControllerRevision{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: name}, revision); err != nil {
		return nil, fmt.Errorf("read revision %s/%s: %w", obj.Namespace, name, err)
	}
	var content resolve.Content
	if err := json.Unmarshal(revision.Data.Raw, &content); err != nil {
		return nil, &resolve.InvalidError{Reason: fmt.Sprintf("revision %s/%s: %s", obj.Namespace, name, err)}
	}
	secrets, err := r.secrets(ctx, obj.Namespace, content.Score)
	if err != nil {
		return nil, err
	}
	return content.Template(obj.Namespace, secrets)
}

// revision makes the ControllerRevision, or the newest of one that is there.
func (r *Reconciler) revision(ctx context.Context, obj *v1alpha1.Deployment, name string, content resolve.Content) (*appsv1.ControllerRevision, error) {
	mine, newest, err := r.find(ctx, r.Client, obj, name)
	if err != nil {
		return nil, err
	}
	if mine != nil {
		if behind, err := r.revisionWrites.Behind(mine); err != nil {
			return nil, err
		} else if behind {
			return nil, errBehind
		}
	}
	if mine == nil || mine.Revision != newest.Revision {
		// The cache may be behind, and two revisions would get one number.
		if mine, newest, err = r.find(ctx, r.APIReader, obj, name); err != nil {
			return nil, err
		}
	}
	now := r.Clock.Now().UTC()
	commit, number := "", int64(1)
	if obj.Status.Source != nil {
		commit = obj.Status.Source.Commit
	}
	if newest != nil {
		number = newest.Revision + 1
	}
	if mine == nil {
		raw, err := content.Marshal()
		if err != nil {
			return nil, err
		}
		revision := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: obj.Namespace,
				Labels:      map[string]string{LabelDeployment: obj.Name},
				Annotations: annotations(now, commit),
			},
			Revision: number,
			Data:     runtime.RawExtension{Raw: raw},
		}
		if err := controllerutil.SetControllerReference(obj, revision, r.Scheme()); err != nil {
			return nil, err
		}
		err = r.Create(ctx, revision)
		if apierrors.IsAlreadyExists(err) {
			err = r.adopt(ctx, obj, revision)
		}
		return revision, err
	}
	if mine == newest {
		return mine, nil
	}
	// The spec went back to an older revision, which is wanted anew. Where Git did
	// that, the newest revision is of another commit; where a person did, this one is
	// still of the commit that it came from.
	if commit == newest.Annotations[annotationCommit] {
		commit = mine.Annotations[annotationCommit]
	}
	return mine, r.patchRevision(ctx, mine, func() {
		mine.Revision = number
		mine.Annotations = annotations(now, commit)
	})
}

// completed remembers when the rollout of a revision was complete: the status forgets it
// with the next one.
func (r *Reconciler) completed(ctx context.Context, revision *appsv1.ControllerRevision) error {
	if revision.Annotations[annotationCompleted] != "" {
		return nil
	}
	return r.patchRevision(ctx, revision, func() {
		metav1.SetMetaDataAnnotation(&revision.ObjectMeta, annotationCompleted, r.Clock.Now().UTC().Format(time.RFC3339Nano))
	})
}

// patchRevision changes a ControllerRevision.
func (r *Reconciler) patchRevision(ctx context.Context, revision *appsv1.ControllerRevision, change func()) error {
	base := revision.DeepCopy()
	change()
	if err := r.Patch(ctx, revision, client.MergeFrom(base), FieldOwner); err != nil {
		return fmt.Errorf("change revision %s/%s: %w", revision.Namespace, revision.Name, err)
	}
	r.revisionWrites.Wrote(revision)
	return nil
}

// adopt takes over a revision that nobody owns: its Deployment was deleted without
// it, or came back from a backup. The name is of the content, so it is the same.
// One that somebody owns is of a Deployment of this name that was deleted, and is
// about to go.
func (r *Reconciler) adopt(ctx context.Context, obj *v1alpha1.Deployment, revision *appsv1.ControllerRevision) error {
	there := &appsv1.ControllerRevision{}
	if err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(revision), there); err != nil {
		return fmt.Errorf("read revision %s/%s: %w", obj.Namespace, revision.Name, err)
	}
	if owner := metav1.GetControllerOf(there); owner != nil {
		return fmt.Errorf("revision %s/%s still belongs to a %s %s that was deleted", obj.Namespace, there.Name, owner.Kind, owner.Name)
	}
	return r.patchRevision(ctx, there, func() {
		there.OwnerReferences, there.Labels, there.Annotations, there.Revision = revision.OwnerReferences, revision.Labels, revision.Annotations, revision.Revision
	})
}

func annotations(since time.Time, commit string) map[string]string {
	out := map[string]string{annotationSince: since.Format(time.RFC3339Nano)}
	if commit != "" {
		out[annotationCommit] = commit
	}
	return out
}

// find returns the revision of a Deployment with a name, and the newest of all; nil
// when there is none.
func (r *Reconciler) find(ctx context.Context, from client.Reader, obj *v1alpha1.Deployment, name string) (mine, newest *appsv1.ControllerRevision, err error) {
	all, err := r.revisions(ctx, from, obj)
	for i := range all {
		if newest == nil || all[i].Revision > newest.Revision {
			newest = &all[i]
		}
		if all[i].Name == name {
			mine = &all[i]
		}
	}
	return mine, newest, err
}

// revisions lists the ControllerRevisions of a Deployment.
func (r *Reconciler) revisions(ctx context.Context, from client.Reader, obj *v1alpha1.Deployment) ([]appsv1.ControllerRevision, error) {
	list := &appsv1.ControllerRevisionList{}
	if err := from.List(ctx, list, client.InNamespace(obj.Namespace), client.MatchingLabels{LabelDeployment: obj.Name}); err != nil {
		return nil, fmt.Errorf("list the revisions of deployment %s/%s: %w", obj.Namespace, obj.Name, err)
	}
	return slices.DeleteFunc(list.Items, func(c appsv1.ControllerRevision) bool { return !metav1.IsControlledBy(&c, obj) }), nil
}

// prune removes the oldest revisions above the limit that are not in use.
func (r *Reconciler) prune(ctx context.Context, obj *v1alpha1.Deployment, update *update) error {
	all, err := r.revisions(ctx, r.Client, obj)
	if err != nil {
		return err
	}
	unused := slices.DeleteFunc(all, func(c appsv1.ControllerRevision) bool {
		return c.Name == update.name || c.Name == obj.Status.CurrentRevision
	})
	slices.SortFunc(unused, func(a, b appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
	for len(unused) > int(*obj.Spec.RevisionHistoryLimit) {
		if err := r.Delete(ctx, &unused[0]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("prune revision %s/%s: %w", obj.Namespace, unused[0].Name, err)
		}
		r.revisionWrites.Forget(client.ObjectKeyFromObject(&unused[0]))
		unused = unused[1:]
	}
	return nil
}
