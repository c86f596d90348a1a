package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
	"github.com/nationtech/fleet/plugin/screen"
)

// operatorPatience is how long the operator may leave a spec unanswered before
// something is wrong with it. It answers within a second when it is well.
const operatorPatience = time.Minute

// Judge makes a report of what was observed.
func Judge(o Observed) Report {
	r := Report{
		Namespace:   o.Scope.Namespace,
		Selector:    o.Scope.Selector,
		Time:        metav1.NewTime(o.Time),
		Sources:     fluxSources(o),
		Deployments: []Deployment{},
		Devices:     o.Devices,
		Problems:    []Problem{},
		Notices:     []Problem{},
	}
	for i := range o.Deployments {
		d := Deployment{Rollout: rollout.Observe(&o.Deployments[i])}
		d.Behind = behind(d, r.Sources)
		r.Deployments = append(r.Deployments, d)
	}
	slices.SortFunc(r.Deployments, func(a, b Deployment) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	r.judgeReading(o)
	r.judgeFlux()
	r.judgeDeployments()
	r.judgeDevices(o.Scope)
	r.Healthy = len(r.Problems) == 0
	return r
}

func (r *Report) problem(p Problem) { r.Problems = append(r.Problems, p) }
func (r *Report) notice(p Problem)  { r.Notices = append(r.Notices, p) }

func (r *Report) judgeReading(o Observed) {
	for _, u := range o.Unread {
		r.problem(Problem{Kind: KindRead, Name: u.What, Message: u.Err.Error(), Hint: cli.Explain(u.Err)})
	}
	if o.LiveError != nil {
		r.Footnotes = append(r.Footnotes, "The live API does not count the devices ("+screen.Safe(o.LiveError.Error())+"): they are as the operator wrote them last.")
	}
	if o.NoFlux {
		r.Footnotes = append(r.Footnotes, "Flux is not installed in this cluster: nothing comes from Git by itself.")
	}
	if o.FluxNamespace != "" {
		r.Footnotes = append(r.Footnotes, fmt.Sprintf("You may read Flux objects in namespace %s only: what others apply is not shown.", o.FluxNamespace))
	}
}

func (r *Report) judgeFlux() {
	for _, s := range r.Sources {
		r.judgeCondition(s.Kind, s.Namespace, s.Name, s.Suspended, s.Condition)
	}
	for _, s := range r.Sources {
		for _, k := range s.Kustomizations {
			r.judgeCondition("Kustomization", k.Namespace, k.Name, k.Suspended, k.Condition)
		}
	}
}

func (r *Report) judgeCondition(kind, namespace, name string, suspended bool, c flux.Condition) {
	p := Problem{Kind: kind, Namespace: namespace, Name: name, Reason: c.Reason, Message: c.Message, Since: c.Since}
	if suspended {
		p.Reason, p.Since = "Suspended", nil
		p.Message = "Nothing new comes from Git this way until it is resumed."
		p.Hint = fmt.Sprintf("%s %s -n %s", resumes(kind), name, namespace)
		r.notice(p)
		return
	}
	if c.Status == metav1.ConditionFalse {
		r.problem(p)
	}
}

// resumes is the command that resumes a kind; it is Flux's own for those that kubectl fleet
// leaves alone.
func resumes(kind string) string {
	switch kind {
	case "OCIRepository":
		return "flux resume source oci"
	case "Bucket":
		return "flux resume source bucket"
	}
	return "kubectl fleet resume " + strings.ToLower(kind)
}

// judgeDeployments takes those that can't go on before those that fail in part.
func (r *Report) judgeDeployments() {
	var silent, stalled, failing []Problem
	for _, d := range r.Deployments {
		p := Problem{
			Kind: "Deployment", Namespace: d.Namespace, Name: d.Name,
			Reason: d.Reason, Message: d.Message, Since: d.Since, Failures: d.Failures, Failed: d.Devices.Failed,
		}
		switch {
		case d.State == rollout.Waiting:
			if d.ChangedAt != nil && r.Time.Sub(d.ChangedAt.Time) > operatorPatience {
				p.Reason, p.Hint = "OperatorSilent", "Is fleet-operator running? kubectl fleet version shows it."
				silent = append(silent, p)
			}
		case d.State == rollout.Stalled, d.State == rollout.Halted, d.State == rollout.RollingBack, d.State == rollout.RolledBack:
			// A halt has the reason why it fails, and the word only in its message.
			p.Hint = fmt.Sprintf("kubectl fleet rollout get %s -n %s", d.Name, d.Namespace)
			stalled = append(stalled, p)
		case d.Devices.Failed > 0:
			p.Reason = "DevicesFailed"
			p.Message = fmt.Sprintf("%s of %s failed; the rollout is %s.", screen.Count(d.Devices.Failed), screen.Plural(d.Devices.Matched, "device"), d.State.Word())
			failing = append(failing, p)
		case d.State == rollout.Paused, d.State == rollout.Suspended, d.State == rollout.NoDevices, d.State == rollout.AwaitingApproval:
			p.Reason, p.Message = string(d.State), d.Why
			if d.State == rollout.AwaitingApproval {
				p.Hint = strings.Join(d.Next, "\n")
			}
			r.notice(p)
		}
	}
	// The more devices, the worse.
	worst := func(a, b Problem) int { return cmp.Compare(b.Failed, a.Failed) }
	slices.SortStableFunc(stalled, worst)
	slices.SortStableFunc(failing, worst)
	r.Problems = slices.Concat(r.Problems, silent, stalled, failing)
}

func (r *Report) judgeDevices(scope cli.Scope) {
	list := func(health string) string { return "kubectl fleet devices" + scope.Flags() + " --health " + health }
	d := r.Devices
	if gone := d.NotReady - d.Mismatched; gone > 0 {
		r.problem(Problem{
			Kind: KindDevices, Reason: "NotReady",
			Message: screen.Plural(gone, "device") + " gone: heartbeats come no more.", Hint: list("not-ready"),
		})
	}
	if d.Mismatched > 0 {
		r.problem(Problem{
			Kind: KindDevices, Reason: v1alpha1.ReasonPublicKeyMismatch,
			Message: screen.Plural(d.Mismatched, "device") + " there with another key than spec.publicKey, and told nothing new: " + names(d.Mismatches, d.Mismatched),
			Hint:    list("not-ready") + " -o wide",
		})
	}
	if d.Duplicate > 0 {
		r.problem(Problem{
			Kind: KindDevices, Reason: "DuplicateID",
			Message: screen.Plural(d.Duplicate, "device") + " refused, an older Device of another namespace has the ID: " + names(d.Duplicates, d.Duplicate),
			Hint:    list("duplicate") + " -o wide",
		})
	}
	if d.NeverSeen > 0 {
		r.notice(Problem{
			Kind: KindDevices, Reason: "NeverSeen",
			Message: screen.Plural(d.NeverSeen, "device") + " never seen: " + names(d.Waiting, d.NeverSeen), Hint: list("never-seen"),
		})
	}
	if d.Pending > 0 {
		wait := " wait"
		if d.Pending == 1 {
			wait = " waits"
		}
		r.notice(Problem{
			Kind: KindDevices, Reason: "PendingApproval",
			Message: screen.Plural(d.Pending, "device") + wait + " for approval: " + names(d.Applicants, d.Pending),
			Hint:    list("pending") + " -o wide\n" + approve(scope, d.Applicants, d.Pending),
		})
	}
	if d.Cordoned > 0 {
		r.notice(Problem{
			Kind: KindDevices, Reason: "Cordoned",
			Message: screen.Plural(d.Cordoned, "device") + " cordoned: they keep what they run and get nothing new.", Hint: list("cordoned"),
		})
	}
}

// approve is the command that approves the devices that wait.
func approve(scope cli.Scope, first []string, count int) string {
	switch {
	case scope.All():
		return "kubectl fleet approve DEVICE -n NAMESPACE"
	case count > len(first):
		return "kubectl fleet approve DEVICE -n " + scope.Namespace
	}
	return "kubectl fleet approve " + strings.Join(first, " ") + " -n " + scope.Namespace
}

// names lists the first few of count names.
func names(first []string, count int) string {
	text := strings.Join(first, ", ")
	if more := count - len(first); more > 0 {
		text += fmt.Sprintf(" and %s more", screen.Count(more))
	}
	return text
}

// behind reports whether the source of a Deployment has a newer commit than the
// one that its spec came from.
func behind(d Deployment, sources []Source) bool {
	if d.Source == nil || d.Source.Commit == "" {
		return false
	}
	for _, s := range sources {
		for _, k := range s.Kustomizations {
			if k.Namespace+"/"+k.Name == d.Source.Kustomization {
				return s.Commit != "" && s.Commit != d.Source.Commit
			}
		}
	}
	return false
}
