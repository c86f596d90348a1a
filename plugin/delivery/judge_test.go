package delivery

import (
	"errors"
	"slices"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
)

const (
	old  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	want = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	next = "cccccccccccccccccccccccccccccccccccccccc"
)

func revision(commit string) string { return "main@sha1:" + commit }

func ready(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
	return []metav1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: message}}
}

// way is a commit's whole way, which it has gone.
func way() observed {
	s := sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "repo"}}
	s.Spec.Reference = &sourcev1.GitRepositoryRef{Branch: "main"}
	s.Status.Artifact = &meta.Artifact{Revision: revision(want)}
	s.Status.Conditions = ready(metav1.ConditionTrue, "Succeeded", "stored artifact")
	k := kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "field"}}
	k.Spec.SourceRef = kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: "repo"}
	k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision = revision(want), revision(want)
	k.Status.Conditions = ready(metav1.ConditionTrue, meta.ReconciliationSucceededReason, "applied")
	d := v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hello", Generation: 2, Labels: map[string]string{
		"kustomize.toolkit.fluxcd.io/name": "field", "kustomize.toolkit.fluxcd.io/namespace": "ns",
	}}}
	d.Status.ObservedGeneration = 2
	d.Status.Source = &v1alpha1.Source{Revision: revision(want), Commit: want}
	d.Status.Aggregate = &v1alpha1.Aggregate{Matched: 3, Updated: 3, Succeeded: 2, Offline: 1}
	d.Status.Conditions = ready(metav1.ConditionTrue, v1alpha1.ReasonRolloutComplete, "2 of 3 devices run it, 1 offline")
	return observed{sources: []sourcev1.GitRepository{s}, kustomizations: []kustomizev1.Kustomization{k}, deployments: []v1alpha1.Deployment{d}}
}

func TestJudge(t *testing.T) {
	failed := func(reason, message string) []metav1.Condition { return ready(metav1.ConditionFalse, reason, message) }
	for _, c := range []struct {
		name   string
		change func(*observed)
		asked  string
		pushed error
		// hops that there are, the last of them in that state, with that reason and a
		// message that has those words.
		hops          int
		state         State
		reason, words string
	}{
		{name: "every reachable device runs it", change: func(*observed) {}, hops: 3, state: Done, words: "runs on 2 devices, 1 offline"},
		{name: "a later commit contains it", change: func(o *observed) {
			o.sources[0].Status.Artifact.Revision = revision(next)
			o.kustomizations[0].Status.LastAppliedRevision = revision(next)
			o.deployments[0].Status.Source.Revision = revision(next)
		}, hops: 3, state: Done},
		{name: "not fetched yet", change: func(o *observed) { o.sources[0].Status.Artifact.Revision = revision(old) }, hops: 1, state: Waiting, reason: "Fetching", words: "has aaaaaaa of main"},
		{name: "nothing fetched ever", change: func(o *observed) { o.sources[0].Status.Artifact = nil }, hops: 1, state: Waiting, reason: "Fetching", words: "nothing yet"},
		{name: "not pushed", change: func(o *observed) { o.sources[0].Status.Artifact.Revision = revision(old) }, pushed: errors.New("it is not on main"), hops: 1, state: Failed, reason: "NotPushed", words: "not on main"},
		{name: "the source can't be fetched", change: func(o *observed) {
			o.sources[0].Status.Artifact.Revision = revision(old)
			o.sources[0].Status.Conditions = failed("GitOperationFailed", "authentication required")
		}, hops: 1, state: Failed, reason: "GitOperationFailed", words: "authentication required"},
		{name: "the source could not be fetched before it was asked to", change: func(o *observed) {
			o.sources[0].Status.Artifact.Revision = revision(old)
			o.sources[0].Status.Conditions = failed("GitOperationFailed", "connection refused")
		}, asked: "now", hops: 1, state: Waiting, reason: "Fetching", words: "asked"},
		{name: "the source can't be fetched when asked", change: func(o *observed) {
			o.sources[0].Status.Artifact.Revision = revision(old)
			o.sources[0].Status.LastHandledReconcileAt = "now"
			o.sources[0].Status.Conditions = failed("GitOperationFailed", "connection refused")
		}, asked: "now", hops: 1, state: Failed, reason: "GitOperationFailed"},
		{name: "the source is suspended", change: func(o *observed) {
			o.sources[0].Status.Artifact.Revision, o.sources[0].Spec.Suspend = revision(old), true
		}, hops: 1, state: Failed, reason: "Suspended", words: "suspended"},
		{name: "suspended after it has fetched", change: func(o *observed) { o.sources[0].Spec.Suspend, o.kustomizations[0].Spec.Suspend = true, true }, hops: 3, state: Done},
		{name: "not applied yet", change: func(o *observed) {
			k := &o.kustomizations[0]
			k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision = revision(old), revision(old)
		}, hops: 2, state: Waiting, reason: "Applying"},
		{name: "the overlay does not build", change: func(o *observed) {
			k := &o.kustomizations[0]
			k.Status.LastAppliedRevision = revision(old)
			k.Status.Conditions = failed("BuildFailed", "no such file")
		}, hops: 2, state: Failed, reason: "BuildFailed", words: "no such file"},
		{name: "what failed was the commit before", change: func(o *observed) {
			k := &o.kustomizations[0]
			k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision = revision(old), revision(old)
			k.Status.Conditions = failed("BuildFailed", "no such file")
		}, hops: 2, state: Waiting, reason: "BuildFailed"},
		{name: "what it depends on is not ready", change: func(o *observed) {
			k := &o.kustomizations[0]
			k.Status.LastAppliedRevision = revision(old)
			k.Status.Conditions = failed(meta.DependencyNotReadyReason, "dependency 'ns/base' is not ready")
		}, hops: 2, state: Waiting, reason: meta.DependencyNotReadyReason},
		{name: "the Kustomization is suspended", change: func(o *observed) {
			o.kustomizations[0].Status.LastAppliedRevision, o.kustomizations[0].Spec.Suspend = revision(old), true
		}, hops: 2, state: Failed, reason: "Suspended"},
		{name: "the operator has not seen a ConfigMap that changed with it", change: func(o *observed) { o.deployments[0].Status.Source.Revision = revision(old) }, hops: 3, state: Waiting, reason: "Waiting", words: "not looked"},
		{name: "the operator has not seen the spec", change: func(o *observed) { o.deployments[0].Generation = 3 }, hops: 3, state: Waiting, reason: "Waiting"},
		{name: "devices are told", change: func(o *observed) {
			o.deployments[0].Status.Conditions = failed(v1alpha1.ReasonProgressing, "1 of 3 devices run it")
		}, hops: 3, state: Waiting, reason: "Progressing"},
		{name: "a device fails", change: func(o *observed) {
			d := &o.deployments[0]
			d.Status.Conditions = append(failed(v1alpha1.ReasonDevicesFailed, "1 failed"), metav1.Condition{Type: "Stalled", Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonDevicesFailed})
			d.Status.Wave = &v1alpha1.WaveStatus{Name: "rest", Phase: v1alpha1.WaveHalted}
			d.Status.Failures = []v1alpha1.Failure{{Device: "shop-1", Reason: "ImagePullFailed"}}
			d.Status.Aggregate.Failed = 1
		}, hops: 3, state: Failed, reason: v1alpha1.ReasonDevicesFailed, words: "shop-1: ImagePullFailed"},
		{name: "no device is selected", change: func(o *observed) {
			o.deployments[0].Status.Conditions = failed(v1alpha1.ReasonNoDevices, "matches no Device")
		}, hops: 3, state: Done, words: "no device"},
		{name: "it is being deleted", change: func(o *observed) { o.deployments[0].DeletionTimestamp = &metav1.Time{} }, hops: 3, state: Waiting, reason: "Deleting"},
		{name: "it is gone", change: func(o *observed) { o.deployments = nil }, hops: 2, state: Done},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := way()
			c.change(&o)
			j := judgement{
				carries:   func(commit string) bool { return slices.Contains([]string{want, next}, commit) },
				published: func(*sourcev1.GitRepository) error { return c.pushed },
				asked:     map[client.ObjectKey]string{{Namespace: "ns", Name: "repo"}: c.asked},
			}
			hops := j.judge(o)
			if len(hops) != c.hops {
				t.Fatalf("%d hops, want %d: %+v", len(hops), c.hops, hops)
			}
			last := hops[len(hops)-1]
			if last.State != c.state || c.reason != "" && last.Reason != c.reason || !strings.Contains(last.Message, c.words) {
				t.Errorf("%+v, want %s %s with %q", last, c.state, c.reason, c.words)
			}
			if last.State == Failed && len(last.Next) == 0 {
				t.Error("it does not say what to do")
			}
			d := Delivery{Hops: hops}
			if d.conclude(); d.State != c.state {
				t.Errorf("the delivery is %s", d.State)
			}
		})
	}
}

// A Deployment that another Kustomization applied is of another delivery.
func TestJudgeOneWayOfSeveral(t *testing.T) {
	o := way()
	o.deployments[0].Labels["kustomize.toolkit.fluxcd.io/name"] = "lab"
	o.kustomizations = append(o.kustomizations, o.kustomizations[0])
	o.kustomizations[1].Name, o.kustomizations[1].Spec.SourceRef.Name = "elsewhere", "another"
	j := judgement{carries: func(c string) bool { return c == want }, published: func(*sourcev1.GitRepository) error { return nil }}
	if hops := j.judge(o); len(hops) != 2 {
		t.Errorf("%+v", hops)
	}
}
