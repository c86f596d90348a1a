package podmantest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// record is what is kept on disk of a podman, so that another process can remove
// what a killed one left.
type record struct {
	Index      int      `json:"index"`
	Dir        string   `json:"dir"`
	RunDir     string   `json:"runDir"`
	Network    string   `json:"network"`
	Bridge     string   `json:"bridge"`
	Subnet     string   `json:"subnet"`
	Registries []string `json:"registries,omitempty"`
	OwnerPID   int      `json:"ownerPID"`
	ServicePID int      `json:"servicePID"`
	Keep       bool     `json:"keep"`
	// UID is the user of a rootless podman; 0 for a podman of root's.
	UID int `json:"uid,omitempty"`
}

// base holds the records and run directories. It is short because the paths of
// conmon's sockets below it are bounded by 108 characters.
const base = "/run/fleet-podman"

// podman is the one that the record is of.
func (r record) podman() *Podman {
	return &Podman{Socket: "unix://" + r.socket(), Network: r.Network, Bridge: r.Bridge, Subnet: r.Subnet, Dir: r.Dir, UID: r.UID, rec: r}
}

func (r record) file() string   { return filepath.Join(base, fmt.Sprintf("%d.json", r.Index)) }
func (r record) socket() string { return filepath.Join(r.RunDir, "podman.sock") }

func (r record) save() error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(r.file(), data, 0o600)
}

func load(path string) (record, error) {
	var r record
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read record %s: %w", path, err)
	}
	return r, nil
}

// globalArgs point podman to this one's directories and away from the host's.
func (r record) globalArgs() []string {
	args := []string{
		"--root", filepath.Join(r.Dir, "storage"),
		"--runroot", filepath.Join(r.RunDir, "run"),
		"--tmpdir", filepath.Join(r.RunDir, "tmp"),
	}
	if r.UID != 0 {
		// Podman's own choice copies every layer.
		return append(args, "--storage-driver", "overlay")
	}
	return append(args, "--network-config-dir", filepath.Join(r.RunDir, "networks"))
}

// running reports whether the service or the one that started it is alive.
func (r record) running() bool {
	if r.Keep {
		return alive(r.ServicePID, r.RunDir)
	}
	return alive(r.OwnerPID, "")
}

// alive reports whether the process exists and its command line has the word in
// it, which tells it from another one that got the same number.
func alive(pid int, word string) bool {
	if pid <= 0 {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(line) > 0 && strings.Contains(string(line), word)
}
