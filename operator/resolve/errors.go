package resolve

import (
	"errors"
	"fmt"
)

// NotFoundError tells that something the score refers to does not exist.
type NotFoundError struct {
	// Namespace and Name of the ConfigMap.
	Namespace, Name string
	// Key that is missing in it; empty when the ConfigMap itself is missing.
	Key string
	// By is what refers to it, such as "container web, variable COLOR".
	By string
}

func (e *NotFoundError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("ConfigMap %s/%s does not exist; %s refers to it", e.Namespace, e.Name, e.By)
	}
	return fmt.Sprintf("ConfigMap %s/%s has no key %q; %s refers to it", e.Namespace, e.Name, e.Key, e.By)
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

// IsInvalid reports whether the error is for a score that has to be changed.
func IsInvalid(err error) bool {
	var target *InvalidError
	return errors.As(err, &target)
}
