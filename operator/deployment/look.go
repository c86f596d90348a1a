package deployment

import (
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
	waves, err := rollout.WavesOf(obj, update.name)
	if err != nil {
		return looked{}, err
	}
	members := r.Roster.Members(key)
	spec := obj.Spec.Rollout
	l := looked{members: members, variants: make([]*variant, len(members)), said: map[int]v1alpha1.Failure{}}
	l.input = rollout.Input{
		Update: update.name, Number: update.revision.Revision, Current: obj.Status.CurrentRevision, Failed: update.rolledBack(obj), Waves: waves.Waves,
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
			Matches:  waves.Matching(m.Labels),
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
