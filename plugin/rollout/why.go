package rollout

import (
	"fmt"
	"strings"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// explain says why a rollout does not go on, or what it waits for, and what
// somebody can do about it.
func (r *Rollout) explain() {
	r.Why, r.Next = r.why(), r.next()
}

func (r *Rollout) why() string {
	switch r.State {
	case Complete:
		return r.leftOut()
	case Waiting, Deleting, NoDevices:
		return r.Message
	case Suspended:
		return "spec.suspend is true: the operator does nothing for this Deployment until it is false."
	case Paused:
		return "spec.paused is true: nobody is told anything new until it is false."
	case Soaking:
		if r.Wave != nil {
			return fmt.Sprintf("Wave %s is well, and when it has stayed so for long enough %s.", r.Wave.Name, r.nextWave())
		}
	case AwaitingApproval:
		if r.Wave != nil {
			return fmt.Sprintf("Wave %s%s begins when somebody approves it.", r.Wave.Name, r.size(r.Wave.Name))
		}
	case Halted:
		return r.whyHalted()
	case RollingBack:
		return fmt.Sprintf("The revision failed, and the devices that got it go back to %s%s.", r.ShortRevision(r.CurrentRevision), r.worst())
	case RolledBack:
		return fmt.Sprintf("The revision failed and was rolled back to %s; it is not tried again until another was.", r.ShortRevision(r.CurrentRevision))
	case Progressing:
		if r.Reason == v1alpha1.ReasonProgressing {
			return r.whyProgressing()
		}
	}
	if r.Reason == "" {
		return r.Message
	}
	return r.Reason + ": " + r.Message
}

// leftOut is what a complete rollout goes without.
func (r *Rollout) leftOut() string {
	var parts []string
	if n := r.Devices.Offline; n > 0 {
		parts = append(parts, fmt.Sprintf("%s offline: they get the revision when they return.", screen.Plural(n, "device")))
	}
	if n := r.Devices.Failed; n > 0 {
		parts = append(parts, screen.Plural(n, "device")+" failed, which spec.rollout.successThreshold allows.")
	}
	return strings.Join(parts, " ")
}

func (r *Rollout) whyHalted() string {
	failed, wave := r.Devices.Failed, ""
	if r.inWaves() {
		wave = " of wave " + r.Wave.Name
		if w := r.wave(r.Wave.Name); w != nil {
			failed = w.Failed
		}
	}
	text := fmt.Sprintf("%s%s failed, too many for a success threshold of %s, so nobody else is told%s", screen.Plural(failed, "device"), wave, r.Rules.SuccessThreshold, r.worst())
	if r.goesBack() {
		return text + fmt.Sprintf("; when they have given up, the devices that got the revision go back to %s.", r.ShortRevision(r.CurrentRevision))
	}
	return text + "."
}

// worst is what the first failing device says.
func (r *Rollout) worst() string {
	if len(r.Failures) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", r.Failures[0].Device, r.Failures[0].Reason)
}

func (r *Rollout) whyProgressing() string {
	told, matched, who := r.Devices.Updated, r.Devices.Matched, "devices"
	if r.inWaves() {
		if w := r.wave(r.Wave.Name); w != nil {
			told, matched, who = w.Updated, w.Matched, "devices of wave "+w.Name
		}
	}
	text := fmt.Sprintf("%s of %s %s were told; at most %s may be between revisions or failing at a time", screen.Count(told), screen.Count(matched), who, r.Rules.MaxUnavailable)
	if n := r.Devices.Failed; n > 0 {
		text += fmt.Sprintf(", and %s failed", screen.Count(n))
	}
	return text + "."
}

// wave is how far the wave of a name has come; nil when that is not known.
func (r *Rollout) wave(name string) *Wave {
	for i := range r.Waves {
		if r.Waves[i].Name == name {
			return &r.Waves[i]
		}
	}
	return nil
}

func (r *Rollout) size(wave string) string {
	w := r.wave(wave)
	if w == nil {
		return ""
	}
	return " of " + screen.Plural(w.Matched, "device")
}

func (r *Rollout) nextWave() string {
	if i := int(r.Wave.Index); i < len(r.Waves) {
		w := r.Waves[i]
		text := "wave " + w.Name + r.size(w.Name)
		if w.Manual && !w.Approved {
			return text + " waits for approval"
		}
		return text + " begins"
	}
	return "the next wave begins"
}

// command is a command line about this Deployment.
func (r *Rollout) command(verb string) string {
	return fmt.Sprintf("kubectl fleet rollout %s %s -n %s", verb, r.Name, r.Namespace)
}

func (r *Rollout) next() []string {
	switch r.State {
	case AwaitingApproval:
		if r.Wave != nil {
			// By its name, so that what is approved is what was seen.
			return []string{r.command("approve") + " --wave " + r.Wave.Name}
		}
	case Paused:
		return []string{r.command("resume")}
	case Waiting:
		return []string{"Is fleet-operator running? kubectl fleet version shows it."}
	case NoDevices:
		return []string{fmt.Sprintf("Compare spec.targetSelector with: kubectl fleet devices -n %s --show-labels", r.Namespace)}
	case Halted, Stalled, RolledBack:
		if r.State == Stalled && r.Reason != v1alpha1.ReasonDevicesFailed && r.Reason != v1alpha1.ReasonProgressDeadlineExceeded {
			return nil
		}
		out := []string{"Push a fix: devices that fail get it at once, and the rollout goes on by itself."}
		if r.State == RolledBack {
			out = []string{"Push a fix: it is rolled out as any revision is."}
		}
		switch {
		case r.State == Halted && r.goesBack(), r.CurrentRevision == "" || r.CurrentRevision == r.UpdateRevision:
		case r.Source != nil && r.Source.Commit != "":
			out = append(out, "Or take the change back: git revert "+screen.Safe(r.Source.Commit))
		default:
			out = append(out, "Or go back: "+r.command("undo"))
		}
		return out
	}
	return nil
}
