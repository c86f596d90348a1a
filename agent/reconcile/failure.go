package reconcile

import "errors"

// Reasons that a device reports, one word each. They are part of what users see
// and match on.
const (
	ReasonImagePull = "ImagePullFailed"
	ReasonPortInUse = "PortInUse"
	ReasonNoDriver  = "DriverNotAvailable"
	ReasonCreate    = "CreateFailed"
	ReasonStart     = "StartFailed"
	ReasonStop      = "StopFailed"
	ReasonProbe     = "ProbeFailed"
	ReasonExited    = "ContainerExited"
	ReasonCrashLoop = "CrashLoopBackOff"
	ReasonDeadline  = "DeadlineExceeded"
	ReasonInvalid   = "InvalidScore"
	ReasonVolume    = "VolumeFailed"
	ReasonRemove    = "RemoveFailed"
	ReasonSecret    = "SecretNotAvailable"
	// ReasonRefused is for what the device's own configuration does not allow.
	ReasonRefused = "RefusedByDevice"
)

// Failure is what keeps a deployment from running, in a word and a sentence for
// people.
type Failure struct {
	Reason  string
	Message string
}

func (f *Failure) Error() string { return f.Message }

// AsFailure finds the failure in an error; one without gets the reason.
func AsFailure(err error, reason string) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return &Failure{Reason: f.Reason, Message: err.Error()}
	}
	return &Failure{Reason: reason, Message: err.Error()}
}
