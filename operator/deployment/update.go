package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
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
)

// update is the revision that every device should run.
type update struct {
	name  string
	since time.Time
	*resolved
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

// templates keeps, of each Deployment, the last that was resolved: to resolve it
// for every device at every event would cost more than everything else.
type templates struct {
	mu     sync.Mutex
	latest map[types.NamespacedName]*resolved
}

func (t *templates) get(key types.NamespacedName, revision string, make func() (*resolve.Template, error)) (*resolved, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.latest[key]; r != nil && r.name == revision {
		return r, nil
	}
	template, err := make()
	if err != nil {
		return nil, err
	}
	if t.latest == nil {
		t.latest = map[types.NamespacedName]*resolved{}
	}
	r := &resolved{name: revision, template: template, variants: map[string]*variant{}}
	t.latest[key] = r
	return r, nil
}

func (t *templates) forget(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.latest, key)
}

// update makes sure that the revision of the spec exists and returns it.
func (r *Reconciler) update(ctx context.Context, obj *v1alpha1.Deployment) (*update, error) {
	configMaps, err := r.configMaps(ctx, obj.Namespace, obj.Spec.Score)
	if err != nil {
		return nil, err
	}
	content, err := resolve.ContentOf(obj.Spec.Score, configMaps)
	if err != nil {
		return nil, err
	}
	name, err := content.Name(obj.Name)
	if err != nil {
		return nil, err
	}
	resolved, err := r.templates.get(client.ObjectKeyFromObject(obj), name, func() (*resolve.Template, error) {
		return resolve.New(obj.Namespace, obj.Spec.Score, configMaps)
	})
	if err != nil {
		return nil, err
	}
	since, err := r.revision(ctx, obj, name, content)
	if err != nil {
		return nil, err
	}
	return &update{name: name, since: since, resolved: resolved}, nil
}

// revision makes the ControllerRevision, or the newest of one that is there.
func (r *Reconciler) revision(ctx context.Context, obj *v1alpha1.Deployment, name string, content resolve.Content) (since time.Time, err error) {
	mine, newest, err := r.find(ctx, r.Client, obj, name)
	if err != nil {
		return time.Time{}, err
	}
	if mine == nil || mine.Revision != newest {
		// The cache may be behind, and two revisions would get one number.
		if mine, newest, err = r.find(ctx, r.APIReader, obj, name); err != nil {
			return time.Time{}, err
		}
	}
	now := r.Clock.Now().UTC()
	commit := ""
	if obj.Status.Source != nil {
		commit = obj.Status.Source.Commit
	}
	if mine == nil {
		raw, err := json.Marshal(content)
		if err != nil {
			return time.Time{}, fmt.Errorf("write revision %s: %w", name, err)
		}
		revision := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: obj.Namespace,
				Labels:      map[string]string{LabelDeployment: obj.Name},
				Annotations: annotations(now, commit),
			},
			Revision: newest + 1,
			Data:     runtime.RawExtension{Raw: raw},
		}
		if err := controllerutil.SetControllerReference(obj, revision, r.Scheme()); err != nil {
			return time.Time{}, err
		}
		err = r.Create(ctx, revision)
		if apierrors.IsAlreadyExists(err) {
			return now, r.adopt(ctx, obj, revision)
		}
		return now, err
	}
	if mine.Revision == newest {
		at, err := time.Parse(time.RFC3339Nano, mine.Annotations[annotationSince])
		if err != nil {
			at = mine.CreationTimestamp.Time
		}
		return at, nil
	}
	// The spec went back to an older revision, which is wanted anew.
	base := mine.DeepCopy()
	mine.Revision = newest + 1
	mine.Annotations = annotations(now, commit)
	return now, r.Patch(ctx, mine, client.MergeFrom(base), client.FieldOwner(FieldOwner))
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
	base := there.DeepCopy()
	there.OwnerReferences, there.Labels, there.Annotations, there.Revision = revision.OwnerReferences, revision.Labels, revision.Annotations, revision.Revision
	return r.Patch(ctx, there, client.MergeFrom(base), client.FieldOwner(FieldOwner))
}

func annotations(since time.Time, commit string) map[string]string {
	out := map[string]string{annotationSince: since.Format(time.RFC3339Nano)}
	if commit != "" {
		out[annotationCommit] = commit
	}
	return out
}

// find returns the revision of a Deployment with a name, nil when there is none,
// and the highest number of all.
func (r *Reconciler) find(ctx context.Context, from client.Reader, obj *v1alpha1.Deployment, name string) (mine *appsv1.ControllerRevision, newest int64, err error) {
	all, err := r.revisions(ctx, from, obj)
	for i := range all {
		newest = max(newest, all[i].Revision)
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
		unused = unused[1:]
	}
	return nil
}
