package env

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ControlPlane is a running test/controlplane.
type ControlPlane struct {
	Dir        string
	Kubeconfig string `json:"kubeconfig"`
	NATS       string `json:"nats"`
	// NATSMonitor and NATSProfile are where the server tells of itself.
	NATSMonitor string `json:"natsMonitor"`
	NATSProfile string `json:"natsProfile"`
	Git         string `json:"git"`
	Registry    string `json:"registry"`

	binary, auditPolicy, natsConfig string
	process                         *Process
}

func (o Options) controlPlane() *ControlPlane {
	dir := filepath.Join(o.Dir, "controlplane")
	binary := filepath.Join(o.Bin, "controlplane")
	return &ControlPlane{Dir: dir, binary: binary, auditPolicy: o.auditPolicy(), natsConfig: o.natsConfig(), process: &Process{
		Name: "the control plane", Path: binary, Log: filepath.Join(o.Dir, "logs", "controlplane.log"),
		Args: []string{
			"run", "--dir", dir, "--nats-config", o.natsConfig(),
			"--apiserver-arg", "--audit-policy-file=" + o.auditPolicy(), "--apiserver-arg", "--audit-log-path=" + o.AuditLog(),
		},
	}}
}

// Start starts every component and waits until all are ready.
func (c *ControlPlane) Start(ctx context.Context) error {
	if err := os.WriteFile(c.auditPolicy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	// Until the operator is installed, whose keys are in the API server.
	if err := os.MkdirAll(filepath.Dir(c.natsConfig), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(c.natsConfig, []byte("jetstream {}\n"), 0o600); err != nil {
		return err
	}
	if err := c.process.Start(); err != nil {
		return err
	}
	return Until(ctx, 2*time.Minute, "control plane ready", func(context.Context) error {
		if !c.process.Running() {
			return c.process.Failure()
		}
		raw, err := os.ReadFile(filepath.Join(c.Dir, "env.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, c)
	})
}

// Stop stops every component.
func (c *ControlPlane) Stop() { c.process.Stop(20 * time.Second) }

// Control carries out one of `controlplane ctl`: kill, stop or start a component.
func (c *ControlPlane) Control(ctx context.Context, verb, component string) error {
	_, err := run(ctx, "", c.binary, "ctl", "--dir", c.Dir, verb, component)
	return err
}

// NATSPID is the NATS server's process.
func (c *ControlPlane) NATSPID() (int, error) {
	raw, err := os.ReadFile(filepath.Join(c.Dir, "nats.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// UserKubeconfig writes a kubeconfig of a person, who may do what is bound to the
// name, and returns its path.
func (c *ControlPlane) UserKubeconfig(ctx context.Context, name string) (string, error) {
	return c.writeKubeconfig(ctx, name, "--user", name)
}

// ServiceAccountKubeconfig writes a kubeconfig with no more rights than the
// service account has, and returns its path.
func (c *ControlPlane) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	return c.writeKubeconfig(ctx, name, "--serviceaccount", namespace+"/"+name)
}

func (c *ControlPlane) writeKubeconfig(ctx context.Context, name string, who ...string) (string, error) {
	out, err := run(ctx, "", c.binary, append([]string{"kubeconfig", "--dir", c.Dir}, who...)...)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.Dir, "kubeconfig-"+name)
	return path, os.WriteFile(path, []byte(out), 0o600)
}

// PushImage puts a static binary into the registry as an image whose processes
// have env, and returns its reference.
func (c *ControlPlane) PushImage(ctx context.Context, binary, repository, tag string, env ...string) (string, error) {
	ref := fmt.Sprintf("%s/%s:%s", c.Registry, repository, tag)
	args := []string{"push-image", "--ref", ref, "--binary", binary}
	for _, e := range env {
		args = append(args, "--env", e)
	}
	if _, err := run(ctx, "", c.binary, args...); err != nil {
		return "", err
	}
	return ref, nil
}

// CreateGit makes a Git repository and returns its URL.
func (c *ControlPlane) CreateGit(ctx context.Context, name string) (string, error) {
	out, err := run(ctx, "", c.binary, "ctl", "--dir", c.Dir, "git-create", name)
	return strings.TrimSpace(out), err
}
