// Package plane puts the control plane together: which components there are,
// how each is run, and in what order.
package plane

import (
	"fmt"
	"path/filepath"

	"github.com/nationtech/fleet/test/controlplane/internal/pki"
)

// Layout says where things are; everything that a run writes is in Dir.
type Layout struct {
	// Dir is absolute.
	Dir string
	// Assets has the binaries and the CRDs.
	Assets string
	Ports  Ports
}

func (l Layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.Dir}, parts...)...)
}

// Log is the log file of a component.
func (l Layout) Log(component string) string { return l.path("logs", component+".log") }

// PKI is the folder of certificates.
func (l Layout) PKI() pki.Dir { return pki.Dir(l.path("pki")) }

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return l.path("kubeconfig") }

// Socket is the control socket.
func (l Layout) Socket() string { return l.path("control.sock") }

// APIServer is the base URL of the API server.
func (l Layout) APIServer() string { return fmt.Sprintf("https://%s", l.addr(portAPIServer)) }

// addr is the address of a port; nothing listens anywhere but on loopback.
func (l Layout) addr(port string) string { return fmt.Sprintf("127.0.0.1:%d", l.Ports[port]) }
