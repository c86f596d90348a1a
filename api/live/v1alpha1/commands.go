package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// StatusTrailer is the HTTP trailer in which placements/log says, as a Status in JSON,
// what has cut a log off. It is there for a request with the header "TE: trailers"; for
// any other the connection is broken off, so that half a log does not pass for a whole
// one.
const StatusTrailer = "Fleet-Status"

// Device is what devices/ping belongs to. It can't be read here: the kind to read is
// the Device of fleet.nationtech.io.
//
// +kubebuilder:object:root=true
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
}

// DevicePing is what a Device answers to a ping.
//
// +kubebuilder:object:root=true
type DevicePing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// roundTrip is how long the operator waited for the answer.
	RoundTrip metav1.Duration `json:"roundTrip"`
	// agentVersion that the device runs.
	AgentVersion string `json:"agentVersion"`
	// uptimeSeconds of the agent.
	UptimeSeconds int64 `json:"uptimeSeconds"`
	// deviceTime is the time by the device's clock when it answered, and time that by
	// the operator's when the answer came.
	DeviceTime metav1.MicroTime `json:"deviceTime"`
	// time by the operator's clock when the answer came.
	Time metav1.MicroTime `json:"time"`
}

// PlacementLogOptions are the parameters of placements/log.
//
// +kubebuilder:object:root=true
type PlacementLogOptions struct {
	metav1.TypeMeta `json:",inline"`

	// container by its name in the score; empty where there is but one.
	// +optional
	Container string `json:"container,omitempty"`
	// follow goes on with what is written until the container ends.
	// +optional
	Follow bool `json:"follow,omitempty"`
	// previous asks for the run before this one.
	// +optional
	Previous bool `json:"previous,omitempty"`
	// sinceSeconds leaves out what is older than this. At most one of it and sinceTime
	// is set.
	// +optional
	SinceSeconds *int64 `json:"sinceSeconds,omitempty"`
	// sinceTime leaves out what is older than this, by the device's clock.
	// +optional
	SinceTime *metav1.Time `json:"sinceTime,omitempty"`
	// timestamps puts the time before each line.
	// +optional
	Timestamps bool `json:"timestamps,omitempty"`
	// tailLines is how many lines of the end are wanted; all that there are when it is
	// not set.
	// +optional
	TailLines *int64 `json:"tailLines,omitempty"`
}

// PlacementExecOptions are the parameters of placements/exec.
//
// +kubebuilder:object:root=true
type PlacementExecOptions struct {
	metav1.TypeMeta `json:",inline"`

	// container by its name in the score; empty where there is but one.
	// +optional
	Container string `json:"container,omitempty"`
	// command to run and its arguments, without a shell.
	Command []string `json:"command"`
	// stdin gives the command an input.
	// +optional
	Stdin bool `json:"stdin,omitempty"`
	// tty gives it a terminal, whose output is all on the standard output.
	// +optional
	TTY bool `json:"tty,omitempty"`
	// width of the terminal when the command begins, in characters. Later sizes come
	// by the stream.
	// +optional
	Width *int64 `json:"width,omitempty"`
	// height of the terminal when the command begins, in lines.
	// +optional
	Height *int64 `json:"height,omitempty"`
}

// PlacementRestartOptions are the parameters of placements/restart.
//
// +kubebuilder:object:root=true
type PlacementRestartOptions struct {
	metav1.TypeMeta `json:",inline"`

	// container by its name in the score; empty for all but init containers.
	// +optional
	Container string `json:"container,omitempty"`
}

// PlacementRestart tells what was restarted.
//
// +kubebuilder:object:root=true
type PlacementRestart struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// containers that were restarted, by their names in the score.
	Containers []string `json:"containers"`
}
