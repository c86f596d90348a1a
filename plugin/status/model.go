// Package status is `kubectl fleet status`: the whole way from Git to the devices
// at a glance, and what is wrong on it.
//
// Gather reads the cluster, Judge decides what that means, Render draws it; only
// Gather does I/O.
package status

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
)

// Report is what `kubectl fleet status` knows: -o json prints it, and the screen
// shows nothing else.
type Report struct {
	// Namespace is empty for all namespaces.
	Namespace string `json:"namespace,omitempty"`
	// Selector has chosen the Deployments and devices; empty is all of them.
	Selector string `json:"selector,omitempty"`
	// Time of reading; ages on the screen are told from it.
	Time metav1.Time `json:"time"`
	// Healthy is true when there are no problems.
	Healthy     bool         `json:"healthy"`
	Sources     []Source     `json:"sources"`
	Deployments []Deployment `json:"deployments"`
	Devices     Devices      `json:"devices"`
	// Problems are what is wrong, the worst first.
	Problems []Problem `json:"problems"`
	// Notices are worth knowing; somebody may have meant it so.
	Notices []Problem `json:"notices"`
	// Footnotes say what this report could not tell.
	Footnotes []string `json:"footnotes,omitempty"`
}

// Source is a Flux source and the Kustomizations that apply fleet objects from it.
type Source struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Ref is the branch, tag or range that is followed.
	Ref string `json:"ref,omitempty"`
	// Revision is the one fetched last, in Flux's words; Commit is its Git commit.
	Revision string `json:"revision,omitempty"`
	Commit   string `json:"commit,omitempty"`
	// FetchedAt is when this revision came.
	FetchedAt      *metav1.Time    `json:"fetchedAt,omitempty"`
	Suspended      bool            `json:"suspended,omitempty"`
	Condition      flux.Condition  `json:"condition"`
	Kustomizations []Kustomization `json:"kustomizations"`
}

// Kustomization is a Flux Kustomization that applies fleet objects.
type Kustomization struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Applied is the revision applied last, Commit its Git commit.
	Applied string `json:"applied,omitempty"`
	Commit  string `json:"commit,omitempty"`
	// AppliedAt is when it was last reconciled with success.
	AppliedAt *metav1.Time `json:"appliedAt,omitempty"`
	// Behind is true when its source has a newer revision.
	Behind    bool           `json:"behind,omitempty"`
	Suspended bool           `json:"suspended,omitempty"`
	Condition flux.Condition `json:"condition"`
}

// Deployment is a Deployment and how its rollout stands.
type Deployment struct {
	rollout.Rollout `json:",inline"`
	// Behind is true when its source has a newer commit than the one that its spec
	// came from.
	Behind bool `json:"behind,omitempty"`
}

// Devices counts devices. Each is in exactly one of ready, notReady, neverSeen,
// pending, shutOut and duplicate.
type Devices struct {
	Total     int `json:"total"`
	Ready     int `json:"ready"`
	NotReady  int `json:"notReady"`
	NeverSeen int `json:"neverSeen"`
	// Pending are those that wait for approval.
	Pending   int `json:"pending"`
	ShutOut   int `json:"shutOut"`
	Duplicate int `json:"duplicate"`
	// Mismatched are those of notReady whose heartbeats arrive, from an agent with
	// another key than spec.publicKey.
	Mismatched int `json:"mismatched,omitempty"`
	// Cordoned come on top.
	Cordoned int `json:"cordoned"`
	// Gone are the devices whose heartbeats stopped last, at most maxGone.
	Gone []Gone `json:"gone,omitempty"`
	// Waiting are names of devices that were never seen, Applicants of such that
	// wait for approval, Duplicates of such whose ID another has, Mismatches of such
	// with another key; at most maxNames each.
	Waiting    []string `json:"waiting,omitempty"`
	Applicants []string `json:"applicants,omitempty"`
	Duplicates []string `json:"duplicates,omitempty"`
	Mismatches []string `json:"mismatches,omitempty"`
}

// How many devices a report names, however many there are.
const (
	maxGone  = live.MaxGone
	maxNames = live.MaxNames
)

// Gone is a device whose heartbeats stopped.
type Gone struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	// LastHeartbeat is when it was last heard of.
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`
}

// Problem is something that is wrong or worth knowing.
type Problem struct {
	// Kind is Read for what could not be read, otherwise the kind of the object;
	// Devices stands for many.
	Kind      string       `json:"kind"`
	Namespace string       `json:"namespace,omitempty"`
	Name      string       `json:"name,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Message   string       `json:"message,omitempty"`
	Since     *metav1.Time `json:"since,omitempty"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
	// Failures are the devices on which a Deployment fails, Failed how many there
	// are in all.
	Failures []v1alpha1.Failure `json:"failures,omitempty"`
	Failed   int32              `json:"failed,omitempty"`
}

// Kinds of problems that are no objects.
const (
	KindRead    = "Read"
	KindDevices = "Devices"
)
