package preview

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/rollout"
	"github.com/nationtech/fleet/operator/roster"
)

// run is a rollout in which every device that is told something does well at once.
type run struct {
	*comparison
	deployment *v1alpha1.Deployment
	from, to   revision
	// was tells that the Deployment existed; old are the devices that it selected.
	was     bool
	old     map[string]*roster.Device
	members []roster.Member
}

// plan has the planner roll it out, and notes who is told when.
func (r *run) plan(out *Deployment) error {
	waves, err := rollout.WavesOf(r.deployment, r.to.name)
	if err != nil {
		return err
	}
	in := r.input(waves)
	for i := range in.Devices {
		d, id := &in.Devices[i], string(in.Devices[i].ID)
		if d.Told == (rollout.Ref{Revision: in.Update, Digest: d.Want}) {
			continue
		}
		if d.Told == (rollout.Ref{}) {
			out.New = append(out.New, id)
		}
		switch {
		case d.Held:
			out.Held = append(out.Held, id)
		case !d.Online:
			out.Offline = append(out.Offline, id)
		}
	}
	settled := in.Current == in.Update
	for w, devices := range tellAll(in) {
		if len(devices) == 0 {
			continue
		}
		wave := Wave{Name: waves.Waves[w].Name, Number: w + 1, Of: len(waves.Waves), Devices: devices}
		if !settled {
			// What all have run waits for nobody.
			wave.AwaitsApproval = !waves.Waves[w].Approved
			if soak := waves.Waves[w].Soak; soak > 0 {
				wave.Soak = &metav1.Duration{Duration: soak}
			}
		}
		out.Waves = append(out.Waves, wave)
	}
	for _, list := range [][]string{out.New, out.Held, out.Offline} {
		slices.Sort(list)
	}
	return nil
}

// input is what the planner goes by: all devices of before run what was wanted before.
func (r *run) input(waves rollout.SpecWaves) rollout.Input {
	all := intstr.FromString("100%")
	in := rollout.Input{
		Update: r.to.name, Number: 1, Waves: slices.Clone(waves.Waves), Devices: make([]rollout.Device, 0, len(r.members)),
		// Whoever is of a wave, however many are told at a time.
		MaxUnavailable: all, SuccessThreshold: all, ProgressDeadline: time.Hour,
		OnFailure: v1alpha1.OnFailureHalt, Now: time.Unix(0, 0),
	}
	if r.was {
		in.Current = r.from.name
	}
	for i := range in.Waves {
		in.Waves[i].Approved, in.Waves[i].Soak = true, 0
	}
	for _, m := range r.members {
		d := rollout.Device{
			ID: m.ID, Want: variant(r.to, m.Device), Held: m.Cordoned, Matches: waves.Matching(m.Labels),
			Online: r.reachable(types.NamespacedName{Namespace: m.Namespace, Name: string(m.ID)}),
		}
		if r.was {
			d.Back = variant(r.from, m.Device)
		}
		if old := r.old[string(m.ID)]; old != nil {
			d.Told = rollout.Ref{Revision: r.from.name, Digest: variant(r.from, old)}
			d.Reported, d.Phase = d.Told, contracts.PhaseRunning
		}
		in.Devices = append(in.Devices, d)
	}
	return in
}

// variant stands for the digest of what a device is told: the same for devices that
// don't differ in what the score refers to. It is never empty, for that is nothing.
func variant(r revision, d *roster.Device) string {
	return "of " + resolve.Variant(r.content.Score, resolve.Device{Name: d.ID, Namespace: d.Namespace, Labels: d.Labels})
}

// tellAll has the planner decide until there is nothing left to tell, and returns the
// devices that are told the update revision by their waves, sorted.
func tellAll(in rollout.Input) [][]string {
	told := make([][]string, len(in.Waves))
	for {
		out := rollout.Plan(in)
		if len(out.Tell) == 0 {
			break
		}
		for _, t := range out.Tell {
			d := &in.Devices[t.Index]
			if t.Back {
				d.Told, d.ToldNumber = rollout.Ref{Revision: in.Current, Digest: d.Back}, 0
			} else {
				d.Told, d.ToldNumber = rollout.Ref{Revision: in.Update, Digest: d.Want}, in.Number
				told[t.Wave] = append(told[t.Wave], string(d.ID))
			}
			d.ToldWave, d.Reported, d.Phase = in.Waves[t.Wave].Name, d.Told, contracts.PhaseRunning
		}
	}
	for _, devices := range told {
		slices.Sort(devices)
	}
	return told
}
