package delivery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// observed is what was read of the cluster, before anything is made of it.
type observed struct {
	sources        []sourcev1.GitRepository
	kustomizations []kustomizev1.Kustomization
	deployments    []v1alpha1.Deployment
}

// judgement is what the hops are judged by.
type judgement struct {
	// carries reports whether a commit is the one that is followed, or one after it.
	carries func(commit string) bool
	// published is why a source can't get the commit: it was not pushed; nil when it was
	// or nobody knows.
	published func(*sourcev1.GitRepository) error
	// asked is what each source was asked by to fetch; what it says of an attempt before
	// that does not count. A source that was not asked has none.
	asked map[client.ObjectKey]string
}

// judge says how far the commit has come on each way, in the order of the ways. What is
// behind a hop that it has not passed is not there yet.
func (j judgement) judge(o observed) []Hop {
	var hops []Hop
	for i := range o.sources {
		s := &o.sources[i]
		hop := j.source(s)
		hops = append(hops, hop)
		if hop.State != Done {
			continue
		}
		for n := range o.kustomizations {
			k := &o.kustomizations[n]
			if sourceOf(k) != client.ObjectKeyFromObject(s) {
				continue
			}
			hop := j.kustomization(k)
			hops = append(hops, hop)
			if hop.State != Done {
				continue
			}
			for m := range o.deployments {
				if d := &o.deployments[m]; flux.AppliedBy(d) == client.ObjectKeyFromObject(k) {
					hops = append(hops, deployment(d, k))
				}
			}
		}
	}
	return hops
}

// sourceOf is the GitRepository that a Kustomization applies from; of another kind of
// source it is none.
func sourceOf(k *kustomizev1.Kustomization) client.ObjectKey {
	if k.Spec.SourceRef.Kind != sourcev1.GitRepositoryKind {
		return client.ObjectKey{}
	}
	return client.ObjectKey{Namespace: cmp.Or(k.Spec.SourceRef.Namespace, k.Namespace), Name: k.Spec.SourceRef.Name}
}

func (j judgement) source(s *sourcev1.GitRepository) Hop {
	h := Hop{Kind: sourcev1.GitRepositoryKind, Namespace: s.Namespace, Name: s.Name, State: Waiting}
	if a := s.Status.Artifact; a != nil {
		h.Commit = flux.CommitOf(h.Kind, a.Revision, "")
	}
	if h.Commit != "" && j.carries(h.Commit) {
		h.State, h.Message = Done, "fetched "+rollout.ShortCommit(h.Commit)
		return h
	}
	ready := flux.ReadyOf(s.Status.Conditions, s.Status.ObservedGeneration, s.Generation)
	token, key := j.asked[client.ObjectKeyFromObject(s)], s.Namespace+"/"+s.Name
	switch {
	case s.Spec.Suspend:
		h.fail("Suspended", "it is suspended, so that Flux fetches nothing", fmt.Sprintf("kubectl fleet resume gitrepository %s -n %s", s.Name, s.Namespace))
	case j.published(s) != nil:
		h.fail("NotPushed", j.published(s).Error(), "git push")
	case token != "" && s.Status.LastHandledReconcileAt != token:
		h.Reason, h.Message = "Fetching", "is asked to fetch"
	case ready.Status == metav1.ConditionFalse:
		h.fail(ready.Reason, ready.Message, fmt.Sprintf("kubectl describe gitrepository %s -n %s", s.Name, s.Namespace))
	case h.Commit == "":
		h.Reason, h.Message = "Fetching", "has fetched nothing yet"
	default:
		h.Reason, h.Message = "Fetching", fmt.Sprintf("has %s of %s", rollout.ShortCommit(h.Commit), cmp.Or(flux.RefOf(s), key))
	}
	return h
}

// waits are the reasons with which a Kustomization is not Ready and goes on by itself.
var waits = []string{meta.DependencyNotReadyReason, meta.ProgressingReason, meta.ProgressingWithRetryReason, "ArtifactFailed"}

func (j judgement) kustomization(k *kustomizev1.Kustomization) Hop {
	h := Hop{Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name, State: Waiting}
	h.Commit = flux.CommitOf(sourcev1.GitRepositoryKind, k.Status.LastAppliedRevision, "")
	if h.Commit != "" && j.carries(h.Commit) {
		h.State, h.Message = Done, "applied "+rollout.ShortCommit(h.Commit)
		return h
	}
	ready := flux.ReadyOf(k.Status.Conditions, k.Status.ObservedGeneration, k.Generation)
	attempted := flux.CommitOf(sourcev1.GitRepositoryKind, k.Status.LastAttemptedRevision, "")
	switch {
	case k.Spec.Suspend:
		h.fail("Suspended", "it is suspended, so that Flux applies nothing", fmt.Sprintf("kubectl fleet resume kustomization %s -n %s", k.Name, k.Namespace))
	case ready.Status == metav1.ConditionFalse && !slices.Contains(waits, ready.Reason) && attempted != "" && j.carries(attempted):
		h.fail(ready.Reason, ready.Message, fmt.Sprintf("kubectl describe kustomization %s -n %s", k.Name, k.Namespace))
	case ready.Status == metav1.ConditionFalse:
		h.Reason, h.Message = ready.Reason, ready.Message
	default:
		h.Reason, h.Message = "Applying", "applies it"
	}
	return h
}

// deployment judges a Deployment that a Kustomization applied with the commit, changed or
// not. The operator looks at it again once the Kustomization says that it has applied
// something, and only then has it seen ConfigMaps that changed with it.
func deployment(d *v1alpha1.Deployment, k *kustomizev1.Kustomization) Hop {
	r := rollout.Observe(d)
	h := Hop{Kind: v1alpha1.DeploymentKind, Namespace: d.Namespace, Name: d.Name, State: Waiting, Reason: string(r.State), Message: r.Why, Devices: d.Status.Aggregate, Next: r.Next}
	if r.Source != nil {
		h.Commit = r.Source.Commit
	}
	if r.State == rollout.Deleting {
		return h
	}
	if s := d.Status.Source; s != nil && s.Revision != "" && s.Revision != k.Status.LastAppliedRevision {
		h.Reason, h.Message, h.Next = "Waiting", "The operator has not looked at it yet.", nil
		return h
	}
	switch r.State {
	case rollout.Complete:
		h.State, h.Reason, h.Next = Done, "", nil
		h.Message = runsOn(r.Devices)
	case rollout.NoDevices:
		h.State, h.Message = Done, "selects no device"
	case rollout.Suspended, rollout.Stalled, rollout.Halted, rollout.RollingBack, rollout.RolledBack:
		h.fail(cmp.Or(r.Reason, string(r.State)), strings.TrimSuffix(r.Why, "."), r.Next...)
		h.Failures = r.Failures
	}
	return h
}

// runsOn is how many devices run what they should.
func runsOn(a v1alpha1.Aggregate) string {
	text := "runs on " + screen.Plural(a.Succeeded, "device")
	if a.Offline > 0 {
		text += fmt.Sprintf(", %s offline", screen.Count(a.Offline))
	}
	if a.Failed > 0 {
		text += fmt.Sprintf(", %s failed", screen.Count(a.Failed))
	}
	return text
}

func (h *Hop) fail(reason, message string, next ...string) {
	h.State, h.Reason, h.Message, h.Next = Failed, reason, message, next
}
