package podmantest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// writeConfig writes the settings that podman is pointed to by environment
// variables, so that a user's own are neither read nor written.
func (r record) writeConfig(registries []string) error {
	netDir := filepath.Join(r.RunDir, "networks")
	for _, dir := range []string{r.Dir, r.RunDir, netDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if r.UID != 0 {
		if err := r.writeUser(); err != nil {
			return err
		}
	}
	network, err := r.network()
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		filepath.Join(r.RunDir, "containers.conf"): r.containersConf(),
		filepath.Join(r.RunDir, "registries.conf"): registriesConf(registries),
		filepath.Join(netDir, r.Network+".json"):   network,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r record) containersConf() string {
	var b strings.Builder
	b.WriteString("[containers]\n")
	if !mayRaiseLimits() {
		// Podman asks for more than a root without CAP_SYS_RESOURCE may have, and
		// then no container starts.
		b.WriteString("default_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n")
	}
	b.WriteString("[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n")
	if hybridCgroups() {
		// crun refuses hybrid cgroups.
		b.WriteString("runtime = \"runc\"\n")
	}
	if r.UID != 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "[network]\nnetwork_backend = \"netavark\"\ndefault_network = %q\n", r.Network)
	return b.String()
}

func registriesConf(insecure []string) string {
	var b strings.Builder
	b.WriteString("unqualified-search-registries = []\n")
	for _, r := range insecure {
		fmt.Fprintf(&b, "[[registry]]\nlocation = %q\ninsecure = true\n", r)
	}
	return b.String()
}

// network is the definition of the default network as netavark's backend of
// podman reads it. DNS is off: aardvark-dns would be one process for all.
// https://docs.podman.io/en/v4.3/markdown/podman-network-create.1.html
func (r record) network() (string, error) {
	prefix, err := netip.ParsePrefix(r.Subnet)
	if err != nil {
		return "", fmt.Errorf("subnet %q: %w", r.Subnet, err)
	}
	id := sha256.Sum256([]byte(r.RunDir))
	data, err := json.Marshal(map[string]any{
		"name": r.Network, "id": hex.EncodeToString(id[:]), "driver": "bridge",
		"network_interface": r.Bridge, "created": "2024-01-01T00:00:00Z",
		"subnets":      []map[string]string{{"subnet": r.Subnet, "gateway": prefix.Masked().Addr().Next().String()}},
		"ipam_options": map[string]string{"driver": "host-local"},
	})
	return string(data), err
}

func hybridCgroups() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	if err == nil {
		return false
	}
	_, err = exec.LookPath("runc")
	return err == nil
}

// mayRaiseLimits reports whether this process has CAP_SYS_RESOURCE, which is
// capability 24 (linux/capability.h).
func mayRaiseLimits() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		if hexa, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hexa), 16, 64)
			return err != nil || caps&(1<<24) != 0
		}
	}
	return true
}
