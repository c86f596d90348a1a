package env

import (
	"path/filepath"
	"time"

	"github.com/nationtech/fleet/operator/setup"
	"github.com/nationtech/fleet/pki"
)

// Options say where a fleet is brought up.
type Options struct {
	// Dir holds everything that the run writes. It is kept short, because unix
	// sockets below it may have at most 107 characters in their path.
	Dir string
	// Bin holds the binaries that `make build` made.
	Bin string
	// MetricsAddr is where the operator serves metrics and profiles; empty is nowhere.
	MetricsAddr string
	// Lease is how long an operator stays the leader without renewing that. Default: 4 s,
	// so that one that was killed is followed by its next self soon.
	Lease time.Duration
}

// CAFile is what the NATS server's certificate is checked against, after InstallOperator.
func (o Options) CAFile() string { return filepath.Join(o.natsDir(), pki.TrustedKey) }

// OperatorSeed is the file with the operator's seed, after InstallOperator.
func (o Options) OperatorSeed() string { return filepath.Join(o.seedDir(), setup.SeedFile) }

// The folders take the place of the volumes that the pods have of the Secrets.
func (o Options) natsDir() string { return filepath.Join(o.Dir, "nats") }
func (o Options) seedDir() string { return filepath.Join(o.Dir, "operator") }
func (o Options) liveDir() string { return filepath.Join(o.Dir, "live") }

// agent is the agent's binary where users who may not enter Bin can run it.
func (o Options) agent() string { return filepath.Join(o.Dir, "fleet-agent") }

func (o Options) natsConfig() string { return filepath.Join(o.natsDir(), setup.ConfigFile) }

// AuditLog is where the API server writes who has asked what of the live API.
func (o Options) AuditLog() string { return filepath.Join(o.Dir, "logs", "audit.log") }

func (o Options) auditPolicy() string { return filepath.Join(o.Dir, "audit-policy.yaml") }

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: live.fleet.nationtech.io}]
- level: None
`
