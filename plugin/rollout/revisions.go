package rollout

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// What the operator writes on the ControllerRevisions of a Deployment.
var (
	labelDeployment      = v1alpha1.GroupVersion.Group + "/deployment"
	annotationSince      = v1alpha1.GroupVersion.Group + "/since"
	annotationCommit     = v1alpha1.GroupVersion.Group + "/commit"
	annotationRolledBack = v1alpha1.GroupVersion.Group + "/rolled-back"
	annotationCompleted  = v1alpha1.GroupVersion.Group + "/completed"
)

// Revision is one of what a Deployment's devices were to run.
type Revision struct {
	// Revision counts up; a revision that is gone back to gets a new number.
	Revision int64  `json:"revision"`
	Name     string `json:"name"`
	// Since is when it was last wanted anew.
	Since metav1.Time `json:"since"`
	// Commit is the Git commit that it came from.
	Commit string `json:"commit,omitempty"`
	// Current tells that it is the last that every reachable device ran, Update that
	// it is the one of the spec.
	Current bool `json:"current,omitempty"`
	Update  bool `json:"update,omitempty"`
	// CompletedAt is when every reachable device ran it for the first time since then.
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
	// RolledBackAt is when it was rolled back.
	RolledBackAt *metav1.Time `json:"rolledBackAt,omitempty"`
	// Changes are in what it differs from the one before it here.
	Changes []string `json:"changes,omitempty"`
}

// kept is a revision with what it has kept.
type kept struct {
	Revision
	content content
	// raw is the score with fields that this version does not know.
	raw map[string]any
}

// content is what a ControllerRevision keeps.
type content struct {
	Score      v1alpha1.Score            `json:"score"`
	ConfigMaps map[string]*configMapData `json:"configMaps,omitempty"`
}

// configMapData is a ConfigMap as it was; nil is one that was missing.
type configMapData struct {
	Data       map[string]string `json:"data,omitempty"`
	BinaryData map[string][]byte `json:"binaryData,omitempty"`
}

// Revisions reads those that a Deployment has kept, the oldest first.
func Revisions(ctx context.Context, c client.Reader, d *v1alpha1.Deployment) ([]Revision, error) {
	all, err := keptOf(ctx, c, d)
	out := make([]Revision, 0, len(all))
	for _, r := range all {
		out = append(out, r.Revision)
	}
	return out, err
}

// keptOf is Revisions with what each has kept.
func keptOf(ctx context.Context, c client.Reader, d *v1alpha1.Deployment) ([]kept, error) {
	list := &appsv1.ControllerRevisionList{}
	if err := c.List(ctx, list, client.InNamespace(d.Namespace), client.MatchingLabels{labelDeployment: d.Name}); err != nil {
		return nil, fmt.Errorf("list the revisions of deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	return history(d, list.Items)
}

// history makes a Deployment's history of its ControllerRevisions.
func history(d *v1alpha1.Deployment, list []appsv1.ControllerRevision) ([]kept, error) {
	var out []kept
	for i := range list {
		if !metav1.IsControlledBy(&list[i], d) {
			continue
		}
		r, err := revisionOf(d, &list[i])
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b kept) int { return cmp.Compare(a.Revision.Revision, b.Revision.Revision) })
	for i := range out {
		var before *content
		if i > 0 {
			before = &out[i-1].content
		}
		out[i].Changes = changes(before, out[i].content)
	}
	return out, nil
}

func revisionOf(d *v1alpha1.Deployment, c *appsv1.ControllerRevision) (kept, error) {
	r := kept{Revision: Revision{
		Revision: c.Revision, Name: c.Name, Since: c.CreationTimestamp, Commit: c.Annotations[annotationCommit],
		Current: c.Name == d.Status.CurrentRevision, Update: c.Name == d.Status.UpdateRevision,
	}}
	if at, ok := timeOf(c.Annotations[annotationSince]); ok {
		r.Since = at
	}
	if at, ok := timeOf(c.Annotations[annotationCompleted]); ok {
		r.CompletedAt = &at
	}
	// One that every device runs after all has not failed.
	if at, ok := timeOf(c.Annotations[annotationRolledBack]); ok && !r.Current {
		r.RolledBackAt = &at
	}
	var whole struct {
		Score map[string]any `json:"score"`
	}
	if err := utiljson.Unmarshal(c.Data.Raw, &r.content); err != nil {
		return r, fmt.Errorf("read revision %s/%s: %w", c.Namespace, c.Name, err)
	}
	if err := utiljson.Unmarshal(c.Data.Raw, &whole); err != nil {
		return r, fmt.Errorf("read revision %s/%s: %w", c.Namespace, c.Name, err)
	}
	r.raw = whole.Score
	return r, nil
}

func timeOf(text string) (metav1.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, text)
	return metav1.NewTime(at.Truncate(time.Second)), err == nil
}

// State is what a revision is for the rollout, in words.
func (r Revision) State() string {
	var words []string
	if r.Current {
		words = append(words, "current")
	}
	if r.Update && !r.Current {
		words = append(words, "update")
	}
	if r.RolledBackAt != nil {
		words = append(words, "rolled back")
	}
	return strings.Join(words, ", ")
}

// pick finds a revision by its number or its name, with the Deployment's before it
// or without.
func pick(d *v1alpha1.Deployment, all []kept, wanted string) (*kept, error) {
	number, err := strconv.ParseInt(wanted, 10, 64)
	isNumber := err == nil
	for i := range all {
		if isNumber && all[i].Revision.Revision == number || all[i].Name == wanted || all[i].Name == d.Name+"-"+wanted {
			return &all[i], nil
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("deployment %s/%s has kept no revisions", d.Namespace, d.Name)
	}
	return nil, fmt.Errorf("deployment %s/%s has no revision %s; kubectl fleet rollout history %s -n %s lists those that it has kept", d.Namespace, d.Name, wanted, d.Name, d.Namespace)
}

// changedConfigMaps names the ConfigMaps that are not any more what a revision has kept.
func (t target) changedConfigMaps(ctx context.Context, r *kept) ([]string, error) {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.content.ConfigMaps)) {
		was, now := r.content.ConfigMaps[name], &configMapData{}
		m := &corev1.ConfigMap{}
		err := t.Client.Get(ctx, client.ObjectKey{Namespace: t.key.Namespace, Name: name}, m)
		switch {
		case err == nil:
			now.Data, now.BinaryData = m.Data, m.BinaryData
		case client.IgnoreNotFound(err) == nil:
			now = nil
		default:
			return nil, fmt.Errorf("get configmap %s/%s: %w", t.key.Namespace, name, err)
		}
		if !apiequality.Semantic.DeepEqual(was, now) {
			out = append(out, name)
		}
	}
	return out, nil
}
