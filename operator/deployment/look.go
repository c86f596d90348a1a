package deployment

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/rollout"
	"github.com/nationtech/fleet/operator/roster"
)

// looked is a Deployment's devices as they were seen at one moment.
type looked struct {
	members []roster.Member
	input   rollout.Input
	// variants has, for each member, what it is to be told, backs what it was to be
	// told of the current revision; empty when there is none.
	variants, backs []*variant
	// said has, by member, what failing devices say.
	said map[int]v1alpha1.Failure
	// sealing tells that secrets are told, to the key that curves has for each member, or
	// to none where it has none that its identity vouches for. Those that the member was
	// told last are sealed to the key in sealedTo.
	sealing          bool
	curves, sealedTo []string
}

// look gathers what the planner decides on. An error is one of the spec.
func (r *Reconciler) look(obj *v1alpha1.Deployment, update *update) (looked, error) {
	key := client.ObjectKeyFromObject(obj)
	waves, selectors, err := waves(obj, update.name)
	if err != nil {
		return looked{}, err
	}
	members := r.Roster.Members(key)
	spec := obj.Spec.Rollout
	l := looked{members: members, variants: make([]*variant, len(members)), said: map[int]v1alpha1.Failure{}}
	l.input = rollout.Input{
		Update: update.name, Number: update.revision.Revision, Current: obj.Status.CurrentRevision, Failed: update.rolledBack(obj), Waves: waves,
		Devices:          make([]rollout.Device, 0, len(members)),
		MaxUnavailable:   *spec.MaxUnavailable,
		SuccessThreshold: *spec.SuccessThreshold,
		ProgressDeadline: spec.ProgressDeadline.Duration,
		OnFailure:        spec.OnFailure,
		Paused:           obj.Spec.Paused, Now: r.Clock.Now(),
	}
	for i := range members {
		l.variants[i] = update.variant(members[i].Device)
	}
	switch {
	case update.current != nil:
		l.backs = make([]*variant, len(members))
		for i := range members {
			l.backs[i] = update.current.variant(members[i].Device)
		}
	case l.input.Current != update.name:
		l.input.Current = ""
	}
	ids := func(yield func(contracts.DeviceID) bool) {
		for i := range members {
			if !yield(members[i].ID) {
				return
			}
		}
	}
	l.sealing = len(update.template.Secrets()) > 0 || update.current != nil && len(update.current.template.Secrets()) > 0
	if l.sealing {
		l.curves, l.sealedTo = make([]string, len(members)), make([]string, len(members))
		r.View.Vouch(ids)
	}
	for p := range r.View.Placements(key, ids) {
		i := len(l.input.Devices)
		m := members[i]
		d := rollout.Device{
			ID: m.ID, Want: l.variants[i].digest,
			Phase: p.Phase, ReportedAt: p.ReportedAt, PhaseSince: p.PhaseSince,
			Online: p.Online, OnlineSince: p.OnlineSince, Unreadable: p.Malformed, Drifted: p.Drifts > 0,
			Reported: rollout.Ref{Revision: p.ReportedRevision, Digest: p.ReportedDigest},
			Held:     m.Cordoned || p.PublicKey != "" && m.PublicKey != "" && p.PublicKey != m.PublicKey,
		}
		if l.sealing {
			l.sealedTo[i] = p.SealedTo
			if m.PublicKey == p.PublicKey {
				l.curves[i] = p.Curve
			}
			d.Held = d.Held || l.curves[i] == ""
		}
		if l.backs != nil {
			d.Back = l.backs[i].digest
		}
		for w, s := range selectors {
			if s == nil || s.Matches(labels.Set(m.Labels)) {
				d.Matches |= 1 << w
			}
		}
		if p.Told {
			d.Told, d.ToldAt = rollout.Ref{Revision: p.Revision, Digest: p.Digest}, p.ToldAt
			d.ToldWave, d.FailedBefore, d.ToldNumber = p.ToldWave, p.FailedBefore, p.ToldNumber
		}
		if p.Reason != "" || p.Message != "" {
			l.said[i] = v1alpha1.Failure{Device: string(m.ID), Reason: p.Reason, Message: p.Message, Log: p.Log}
		}
		l.input.Devices = append(l.input.Devices, d)
	}
	return l, nil
}

// waves are those of the spec and, where these don't take everything, the rest. A
// nil selector matches every device.
func waves(obj *v1alpha1.Deployment, revision string) (waves []rollout.Wave, selectors []labels.Selector, err error) {
	spec := obj.Spec.Rollout
	approved := map[string]bool{}
	for _, a := range spec.Approvals {
		approved[a.Wave] = a.Revision == revision
	}
	everything := false
	for i, w := range spec.Waves {
		wave := rollout.Wave{Name: w.Name, Limit: w.Limit, Approved: w.Approval != v1alpha1.ApprovalManual || approved[w.Name]}
		if w.Soak != nil {
			wave.Soak = w.Soak.Duration
		}
		var selector labels.Selector
		if w.Selector != nil {
			if selector, err = metav1.LabelSelectorAsSelector(w.Selector); err != nil {
				return nil, nil, fmt.Errorf("spec.rollout.waves[%d].selector: %w", i, err)
			}
		}
		waves, selectors = append(waves, wave), append(selectors, selector)
		everything = w.Selector == nil && w.Limit == nil
	}
	if !everything {
		waves, selectors = append(waves, rollout.Wave{Name: v1alpha1.RestWave, Approved: true}), append(selectors, nil)
	}
	return waves, selectors, nil
}
