package kvm

import (
	"fmt"
	"strings"

	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/provision/cloudinit"
)

// maxHostname is the longest name that a guest can have.
const maxHostname = 63

// noUserData has cloud-init do no more than it does by itself.
const noUserData = "#cloud-config\n{}\n"

// seed is what cloud-init reads.
func (s step) seed(m *machines.Machine) ([]byte, error) {
	user := []byte(noUserData)
	switch c := m.Spec.CloudInit; {
	case c.SecretUserData != nil:
		opened, err := s.open()
		if err != nil {
			return nil, err
		}
		var ok bool
		if user, ok = opened[c.SecretUserData.Name]; !ok {
			return nil, secretFailure("secret %s is not among those that are sealed", c.SecretUserData.Name)
		}
	case c.UserData != "":
		user = []byte(c.UserData)
	}
	var network []byte
	if text := m.Spec.CloudInit.NetworkConfig; text != "" {
		network = []byte(text)
	}
	seed, err := cloudinit.Seed(user, s.metaData(m), network)
	if err != nil {
		return nil, &reconcile.Failure{Reason: reconcile.ReasonInvalid, Message: fmt.Sprintf("machine %s: %v", m.Spec.Name, err)}
	}
	return seed, nil
}

// metaData says who the machine is. The instance is another when what it is set up with
// is: then cloud-init sets it up again.
func (s step) metaData(m *machines.Machine) []byte {
	var b strings.Builder
	for _, line := range [][2]string{
		{"instance-id", fmt.Sprintf("fleet-%s-%s-%s-%s", s.o.Device, s.n, m.Spec.Name, m.SeedHash)},
		{"local-hostname", hostname(fmt.Sprintf("%s-%s", s.o.Device, m.Spec.Name))},
		{"device", string(s.o.Device)},
		{"deployment", string(s.n)},
		{"machine", m.Spec.Name},
	} {
		// All of them are DNS labels, which YAML might take for numbers.
		fmt.Fprintf(&b, "%s: %q\n", line[0], line[1])
	}
	return []byte(b.String())
}

func hostname(s string) string { return strings.TrimRight(s[:min(len(s), maxHostname)], "-") }

func (s step) open() (map[string][]byte, error) {
	if s.want.Sealed == nil || s.o.Open == nil {
		return nil, secretFailure("no secrets were sealed to this device")
	}
	opened, err := s.o.Open(s.want.Sealed)
	if err != nil {
		return nil, secretFailure("%v", err)
	}
	return opened, nil
}

func secretFailure(format string, args ...any) error {
	return &reconcile.Failure{Reason: reconcile.ReasonSecret, Message: fmt.Sprintf(format, args...)}
}
