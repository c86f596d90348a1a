// Package trust keeps what a device trusts since it joined: whose word it takes, and
// which certificates its server's are signed with.
package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// file is in the state directory.
const file = "trust.json"

// Trust is what a device trusts.
type Trust struct {
	// Operator is the public NKey that signs what the device is told.
	Operator string `json:"operator"`
	// HandedOver is the number of the handover that led to that key; 0 for none.
	HandedOver int64 `json:"handedOver,omitempty"`
	// Curve is the public curve key of the operator.
	Curve string `json:"curve,omitempty"`
	// Server is the URL of the fleet's server, Device the ID that the device joined as.
	Server string             `json:"server,omitempty"`
	Device contracts.DeviceID `json:"device,omitempty"`
	// CA are the certificates, as PEM, that the server's is signed with; empty for the
	// system's.
	CA string `json:"ca,omitempty"`
}

// Path is the file that it is kept in.
func Path(stateDir string) string { return filepath.Join(stateDir, file) }

// Options are those of a connection to the fleet's server, and to no other.
func (t Trust) Options() bus.Options {
	if t.CA == "" {
		return bus.Options{}
	}
	return bus.Options{Authorities: func() ([]byte, error) { return []byte(t.CA), nil }}
}

// ErrNotJoined tells that the device has not joined a fleet.
var ErrNotJoined = errors.New("this device has not joined a fleet; run fleet-agent join")

// Load reads what the device trusts. It fails with ErrNotJoined where that is nothing.
func Load(stateDir string) (Trust, error) {
	path := Path(stateDir)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Trust{}, ErrNotJoined
	}
	if err != nil {
		return Trust{}, fmt.Errorf("read what this device trusts: %w", err)
	}
	var t Trust
	if err := json.Unmarshal(data, &t); err != nil {
		return Trust{}, fmt.Errorf("read what this device trusts: %s: %w", path, err)
	}
	if !nkeys.IsValidPublicOperatorKey(t.Operator) {
		return Trust{}, fmt.Errorf("read what this device trusts: %s: operator is not a public NKey that begins with O", path)
	}
	return t, nil
}

// Save writes it.
func Save(stateDir string, t Trust) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(Path(stateDir), append(data, '\n'), 0o600)
}

// updating keeps one change from being lost to another.
var updating sync.Mutex

// Update changes what the device trusts.
func Update(stateDir string, change func(*Trust)) error {
	updating.Lock()
	defer updating.Unlock()
	t, err := Load(stateDir)
	if err != nil {
		return err
	}
	change(&t)
	return Save(stateDir, t)
}
