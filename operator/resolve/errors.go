package resolve

import (
	"errors"
	"fmt"
)

// Kinds of what a score refers to.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
)

// NotFoundError tells that something the score refers to does not exist.
type NotFoundError struct {
	// Kind, Namespace and Name of it.
	Kind, Namespace, Name string
	// Key that is missing in it; empty when it is missing itself.
	Key string
	// By is what refers to it, such as "container web, variable COLOR".
	By string
}

func (e *NotFoundError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s %s/%s does not exist; %s refers to it", e.Kind, e.Namespace, e.Name, e.By)
	}
	return fmt.Sprintf("%s %s/%s has no key %q; %s refers to it", e.Kind, e.Namespace, e.Name, e.Key, e.By)
}

// ChangedError tells that a Secret is not what it was when a revision was made, which
// can't be told again therefore: what it was, nobody keeps.
type ChangedError struct{ Namespace, Name string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("Secret %s/%s has changed since", e.Namespace, e.Name)
}

// InvalidError tells that a score can't be carried out as it is written.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}

// IsNotFound reports whether the error is for something that does not exist yet.
func IsNotFound(err error) bool {
	var target *NotFoundError
	return errors.As(err, &target)
}

// IsChanged reports whether the error is for a Secret that has changed since.
func IsChanged(err error) bool {
	var target *ChangedError
	return errors.As(err, &target)
}

// IsInvalid reports whether the error is for a score that has to be changed.
func IsInvalid(err error) bool {
	var target *InvalidError
	return errors.As(err, &target)
}
