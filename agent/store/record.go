package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Record is how far a deployment came on this device.
type Record struct {
	// Report is the last one that was made, whether it was sent or not.
	Report contracts.DeploymentState `json:"report"`
	// Carried is the digest of the desired state that is being carried out: what the
	// device was told last, or what was healthy before when that was undone.
	Carried string `json:"carried,omitempty"`
	// Driver is the name of the driver that has, or may have, something of it.
	Driver string `json:"driver,omitempty"`
	// Healthy tells that it has run as it should.
	Healthy bool `json:"healthy,omitempty"`
	// Undone is what did not get healthy here and is not tried again; nil for nothing.
	Undone *Undone `json:"undone,omitempty"`
	// BootID is of the boot in which it was healthy: what a reboot ended was not
	// changed by hand.
	BootID string `json:"bootID,omitempty"`
	// Backoff and Restarts by the runtime's ID of a container or machine.
	Backoff  map[string]reconcile.Backoff `json:"backoff,omitempty"`
	Restarts map[string]int64             `json:"restarts,omitempty"`
}

// Undone is a desired state that was given up for what was healthy before, and why.
type Undone struct {
	Digest  string `json:"digest"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Log is the end of the failing container's.
	Log string `json:"log,omitempty"`
}

// Agent is what the agent says of itself, for the status command.
type Agent struct {
	Device  contracts.DeviceID `json:"device"`
	Version string             `json:"version"`
	Server  string             `json:"server"`
	Started time.Time          `json:"started"`
	// Connected to the server, or not, since Since; Error is why not.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	// Refused is what did not count of what the device was told; nil for nothing.
	Refused *Refused `json:"refused,omitempty"`
}

// Refused are orders that did not count since the agent started, the last of them in
// particular.
type Refused struct {
	Count      int64                    `json:"count"`
	Deployment contracts.DeploymentName `json:"deployment,omitempty"`
	Reason     string                   `json:"reason"`
	Time       time.Time                `json:"time"`
}

// PutAgent remembers how the agent stands.
func (s *Store) PutAgent(a Agent) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("store the agent's state: %w", err)
	}
	if err := WriteFile(filepath.Join(s.dir, agentFile), data, 0o600); err != nil {
		return fmt.Errorf("store the agent's state: %w", err)
	}
	return nil
}

// Agent is how the agent stands, or stood when it last ran. The error wraps
// fs.ErrNotExist when it never has.
func (s *Store) Agent() (Agent, error) {
	var a Agent
	data, err := os.ReadFile(filepath.Join(s.dir, agentFile))
	if err != nil {
		return a, fmt.Errorf("read the agent's state: %w", err)
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, fmt.Errorf("read the agent's state: %w", err)
	}
	return a, nil
}

// ErrInUse tells that another agent has the state directory.
var ErrInUse = errors.New("another fleet-agent is running with it")

func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// The lock goes with the process, however that ends.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Running reports whether an agent has the directory.
func (s *Store) Running() (bool, error) {
	f, err := os.Open(filepath.Join(s.dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the agent runs: %w", err)
	}
	defer f.Close()
	// A shared lock, so that two looks at once don't see each other as the agent.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
