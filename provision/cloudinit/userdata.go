package cloudinit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/libvirt"
)

// AdminUser is the user with whom a person logs in.
const AdminUser = "fleet-admin"

// Machine is what a machine becomes at its first boot.
type Machine struct {
	Name string
	// AuthorizedKeys may log in as AdminUser over SSH. Password, which may be empty, is for
	// the console alone.
	AuthorizedKeys []string
	Password       string
	// Join is how it joins the fleet; nil for a machine that does not.
	Join *Join
}

// Join is how a machine joins the fleet, with the agent that is on the disk AgentLabel.
type Join struct {
	// Server is where the fleet is, Token the join token.
	Server, Token string
	// CA are certificates that the server's is checked against; most need none, since the
	// operator tells a device that joins.
	CA []byte
	// Rootful has root's podman run the containers.
	Rootful bool
}

type document struct {
	Hostname   string      `json:"hostname"`
	Locale     string      `json:"locale"`
	SSHPwauth  bool        `json:"ssh_pwauth"`
	Users      []user      `json:"users"`
	WriteFiles []writeFile `json:"write_files,omitempty"`
	RunCmd     [][]string  `json:"runcmd,omitempty"`
}

type user struct {
	Name              string   `json:"name"`
	Gecos             string   `json:"gecos"`
	Shell             string   `json:"shell"`
	Sudo              string   `json:"sudo"`
	LockPasswd        bool     `json:"lock_passwd"`
	HashedPasswd      string   `json:"hashed_passwd,omitempty"`
	SSHAuthorizedKeys []string `json:"ssh_authorized_keys,omitempty"`
}

type writeFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

// UserData is the seed's file of that name.
func UserData(m Machine) ([]byte, error) {
	admin := user{
		Name: AdminUser, Gecos: "Administrator", Shell: "/bin/bash", Sudo: "ALL=(ALL) NOPASSWD:ALL",
		LockPasswd: m.Password == "", SSHAuthorizedKeys: m.AuthorizedKeys,
	}
	if m.Password != "" {
		hash, err := hashPassword(m.Password)
		if err != nil {
			return nil, err
		}
		admin.HashedPasswd = hash
	}
	d := document{
		Hostname: m.Name,
		// Another one would have to be generated, which takes minutes under emulation.
		Locale: "C.UTF-8",
		Users:  []user{admin},
	}
	if m.Join != nil {
		d.WriteFiles = joinFiles(m.Name, *m.Join)
		// Without waiting: cloud-init reports its end only when this has ended, and joining
		// takes as long as the fleet's server is not there.
		d.RunCmd = [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "enable", "--now", "--no-block", joinUnit}}
	}
	body, err := yaml.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write user-data of %s: %w", m.Name, err)
	}
	return append([]byte("#cloud-config\n"), body...), nil
}

// MetaData is the seed's file of that name. cloud-init does its work again for an instance
// with another ID: it follows from what the machine is to become.
func MetaData(name string, userData []byte) []byte {
	digest := sha256.Sum256(userData)
	return fmt.Appendf(nil, "instance-id: %s-%s\nlocal-hostname: %s\n", name, hex.EncodeToString(digest[:6]), name)
}

// NetworkConfig has the machine ask for an address on the interface with this MAC, by the
// MAC: by default some systems show another identity, for which the host's list of leases
// has no name.
func NetworkConfig(mac libvirt.MAC) []byte {
	return fmt.Appendf(nil, `version: 2
ethernets:
  fleet:
    match: {macaddress: %q}
    dhcp4: true
    dhcp-identifier: mac
`, mac)
}

// Label of the disk with the agent, and the unit that installs it.
const (
	AgentLabel = "FLEET-AGENT"
	joinUnit   = "fleet-join.service"
	joinScript = "/usr/local/sbin/fleet-join"
	joinDir    = "/etc/fleet-join"
	joinMedium = "/run/fleet-join"
)

// Files of the disk with the agent.
const (
	AgentFile   = "fleet-agent"
	InstallFile = "install.sh"
)

// AgentMedium is the disk with the agent: its binary, and its installer with what belongs
// to that.
func AgentMedium(binary []byte, packaging fs.FS) ([]byte, error) {
	files := []File{{AgentFile, 0o755, binary}}
	err := fs.WalkDir(packaging, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(packaging, path)
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(path, ".sh") {
			mode = 0o755
		}
		files = append(files, File{path, mode, data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the agent's installer: %w", err)
	}
	return Medium(AgentLabel, files)
}

// joinFiles install the agent with its own installer. They are a unit and not only commands
// of the first boot, so that a server that is not there yet, or a power cut in the middle,
// is no reason for a machine that never joins.
func joinFiles(name string, j Join) []writeFile {
	install := []string{"./" + InstallFile, "--binary", "./" + AgentFile, "--server", command.Quote(j.Server), "--device", command.Quote(name), "--token-file", joinDir + "/token"}
	files := []writeFile{{joinDir + "/token", "0600", j.Token + "\n"}}
	if len(j.CA) > 0 {
		files = append(files, writeFile{joinDir + "/ca.pem", "0600", string(j.CA)})
		install = append(install, "--ca-file", joinDir+"/ca.pem")
	}
	if j.Rootful {
		install = append(install, "--rootful")
	}
	script := `#!/bin/sh
# Installs fleet's agent from the disk that came with this machine, and has the machine join.
set -eu
mkdir -p ` + joinMedium + `
mountpoint -q ` + joinMedium + ` || mount -o ro -t iso9660 LABEL=` + AgentLabel + ` ` + joinMedium + `
cd ` + joinMedium + `
` + strings.Join(install, " ") + `
cd /
umount ` + joinMedium + `
rm -f ` + joinDir + `/token
systemctl disable ` + joinUnit + `
`
	unit := `[Unit]
Description=Have this machine join its fleet
Wants=network-online.target
After=network-online.target
ConditionPathExists=` + joinDir + `/token
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=` + joinScript + `
Restart=on-failure
RestartSec=15
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`
	return append(files, writeFile{joinScript, "0755", script}, writeFile{"/etc/systemd/system/" + joinUnit, "0644", unit})
}
