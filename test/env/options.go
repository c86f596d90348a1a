package env

import "path/filepath"

// Options say where a fleet is brought up.
type Options struct {
	// Dir holds everything that the run writes. It is kept short, because unix
	// sockets below it may have at most 107 characters in their path.
	Dir string
	// Bin holds the binaries that `make build` made.
	Bin string
}

func (o Options) natsConfig() string { return filepath.Join(o.Dir, "nats.conf") }

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
