// Package env describes a running control plane to whoever wants to use it.
// It imports nothing outside the standard library, so that a program that only
// reads env.json may also copy it.
package env

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is the name of the description inside the directory of a control plane.
const File = "env.json"

// Env is the content of env.json. The file appears when everything that was
// asked for is ready, is replaced whenever a component gets another process ID,
// and is removed when the control plane stops. A field is empty when its
// component does not run.
type Env struct {
	// Dir is the absolute directory given by --dir.
	Dir string `json:"dir"`
	// PID is the process ID of the supervisor.
	PID int `json:"pid"`
	// StartedAt is when the supervisor started; ReadyAfter how long it took.
	StartedAt  time.Time `json:"startedAt"`
	ReadyAfter string    `json:"readyAfter"`
	// ControlSocket is the unix socket that `controlplane ctl` talks to.
	ControlSocket string `json:"controlSocket"`
	// Assets holds the component binaries; usable as KUBEBUILDER_ASSETS.
	Assets string `json:"assets"`

	// Kubeconfig is the administrator's (system:masters), self-contained.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// APIServer is the base URL of kube-apiserver.
	APIServer string `json:"apiServer,omitempty"`
	// CACert verifies the API server, and every client certificate it accepts.
	CACert string `json:"caCert,omitempty"`
	// FrontProxyCACert verifies the API server when it calls an aggregated API.
	FrontProxyCACert string `json:"frontProxyCACert,omitempty"`

	// NATS is the client URL, NATSMonitor the base of /varz, /connz, /healthz and
	// NATSProfile that of /debug/pprof.
	NATS        string `json:"nats,omitempty"`
	NATSMonitor string `json:"natsMonitor,omitempty"`
	NATSProfile string `json:"natsProfile,omitempty"`
	// Git is the base URL: a repository is at Git + "/NAME.git" and appears
	// with the first push to it.
	Git string `json:"git,omitempty"`
	// Registry is the host:port of the OCI registry (plain HTTP).
	Registry string `json:"registry,omitempty"`

	// Components has what runs, by name.
	Components map[string]Component `json:"components"`
}

// Component is one part of the control plane, at the time of writing.
type Component struct {
	// PID is the supervisor's own for git and registry, which run inside it.
	PID  int    `json:"pid"`
	Port int    `json:"port"`
	Log  string `json:"log"`
}

// Load reads the description of the control plane in dir.
func Load(dir string) (Env, error) {
	var e Env
	raw, err := os.ReadFile(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("no control plane is ready in %s: %w", dir, err)
	}
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("decode %s: %w", filepath.Join(dir, File), err)
	}
	return e, nil
}

// Write replaces the description; a reader sees the old one or the new one.
func Write(e Env) error {
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(e.Dir, File)
	if err := os.WriteFile(path+".tmp", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
