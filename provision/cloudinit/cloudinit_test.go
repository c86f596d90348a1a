package cloudinit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/provision/libvirt"
)

// open reads a disk as a machine would.
func open(t *testing.T, image []byte) *iso9660.FileSystem {
	t.Helper()
	path := filepath.Join(t.TempDir(), "iso")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	iso, err := iso9660.Read(file.New(f, true), int64(len(image)), 0, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	return iso
}

func TestSeed(t *testing.T) {
	before := temporary(t)
	seed, err := Seed([]byte("#cloud-config\n{}\n"), []byte("instance-id: a\n"), []byte("version: 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	iso := open(t, seed)
	if label := strings.TrimRight(iso.Label(), " \x00"); label != "cidata" {
		t.Errorf("cloud-init looks for a disk cidata; this one is %q", label)
	}
	for name, want := range map[string]string{"user-data": "#cloud-config\n{}\n", "meta-data": "instance-id: a\n", "network-config": "version: 2\n"} {
		if got, err := iso.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if after := temporary(t); after != before {
		t.Errorf("there were %d folders with secrets, and now there are %d", before, after)
	}
}

func temporary(t *testing.T) int {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "fleet-medium-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(left)
}

func TestASeedThatIsTooLargeIsRefused(t *testing.T) {
	if _, err := Seed(bytes.Repeat([]byte("x"), MaxSeed-3), []byte("abc"), nil); err != nil {
		t.Errorf("the largest there may be: %v", err)
	}
	_, err := Seed(bytes.Repeat([]byte("x"), MaxSeed), []byte("a"), nil)
	if err == nil || !strings.Contains(err.Error(), "too large") || !strings.Contains(err.Error(), "1048577") {
		t.Errorf("%v", err)
	}
}

func TestUserData(t *testing.T) {
	m := Machine{Name: "till-1", AuthorizedKeys: []string{"ssh-ed25519 AAAA ada@example"}, Password: "correct horse"}
	data, err := UserData(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
		t.Errorf("cloud-init would not know what it is:\n%s", data)
	}
	if bytes.Contains(data, []byte(m.Password)) {
		t.Error("the password is in it in clear")
	}
	var d document
	if err := yaml.UnmarshalStrict(data, &d); err != nil {
		t.Fatal(err)
	}
	admin := d.Users[0]
	if admin.Name != "fleet-admin" || admin.LockPasswd || d.SSHPwauth || len(d.Users) != 1 {
		t.Errorf("%+v", d)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(admin.HashedPasswd), []byte(m.Password)); err != nil {
		t.Error(err)
	}
	if len(d.WriteFiles)+len(d.RunCmd) > 0 {
		t.Errorf("a machine that joins nothing runs %+v %+v", d.WriteFiles, d.RunCmd)
	}
	m.Password = ""
	if data, err = UserData(m); err != nil || !strings.Contains(string(data), "lock_passwd: true") {
		t.Errorf("without a password nobody may log in with one:\n%s", data)
	}
	m.Password = strings.Repeat("x", 73)
	if _, err = UserData(m); err == nil || !strings.Contains(err.Error(), PasswordVariable) {
		t.Errorf("a password of which a part would not count: %v", err)
	}
}

func TestAMachineJoinsWithTheAgentsInstaller(t *testing.T) {
	hostile := "tls://a'; reboot; '"
	data, err := UserData(Machine{Name: "till-1", Join: &Join{Server: hostile, Token: "fleet-join.a.b", CA: []byte("PEM")}})
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := yaml.UnmarshalStrict(data, &d); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	byPath := map[string]writeFile{}
	for _, f := range d.WriteFiles {
		byPath[f.Path] = f
	}
	if token := byPath["/etc/fleet-join/token"]; token.Content != "fleet-join.a.b\n" || token.Permissions != "0600" {
		t.Errorf("token %+v", token)
	}
	// What the shell makes of the line that installs.
	script := byPath["/usr/local/sbin/fleet-join"].Content
	_, line, found := strings.Cut(script, "\n./install.sh ")
	line, _, _ = strings.Cut(line, "\n")
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+line).Output()
	want := "--binary\n./fleet-agent\n--server\n" + hostile + "\n--device\ntill-1\n--token-file\n/etc/fleet-join/token\n--ca-file\n/etc/fleet-join/ca.pem\n"
	if !found || err != nil || string(out) != want {
		t.Errorf("the installer is given\n%s, %v; want\n%s", out, err, want)
	}
	if out, err := exec.Command("sh", "-n", "-c", script).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	verify(t, filepath.Join(dir, "fleet-join.service"), byPath["/etc/systemd/system/fleet-join.service"].Content)
}

// verify has systemd look at a unit. What it says counts: it ends with 0 on typing errors.
func verify(t *testing.T, path, unit string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("no systemd-analyze on this machine: the unit was not verified")
		return
	}
	unit = strings.Replace(unit, "ExecStart="+joinScript, "ExecStart=/bin/true", 1)
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s\n%s", err, out, unit)
	}
}

func TestMetaDataChangesWithWhatTheMachineBecomes(t *testing.T) {
	first, again, other := MetaData("a", []byte("x")), MetaData("a", []byte("x")), MetaData("a", []byte("y"))
	if !bytes.Equal(first, again) || bytes.Equal(first, other) {
		t.Errorf("%s %s %s", first, again, other)
	}
}

func TestNetworkConfig(t *testing.T) {
	var got struct {
		Ethernets map[string]struct {
			Match struct {
				MAC string `json:"macaddress"`
			} `json:"match"`
			DHCP4 bool `json:"dhcp4"`
		} `json:"ethernets"`
	}
	if err := yaml.Unmarshal(NetworkConfig(libvirt.MustMAC("52:54:00:12:34:56")), &got); err != nil {
		t.Fatal(err)
	}
	if e := got.Ethernets["fleet"]; e.Match.MAC != "52:54:00:12:34:56" || !e.DHCP4 {
		t.Errorf("%+v", got)
	}
}

func TestAgentMedium(t *testing.T) {
	// As large as the agent may become.
	binary := bytes.Repeat([]byte("0123456789abcdef"), 25<<16)
	image, err := AgentMedium(binary, fstest.MapFS{"install.sh": {Data: []byte("#!/bin/sh\n")}, "setup.sh": {Data: []byte("#!/bin/sh\n")}, "fleet-agent-podman.service": {Data: []byte("[Unit]\n")}, "fleet-agent-podman.socket": {Data: []byte("[Socket]\n")}})
	if err != nil {
		t.Fatal(err)
	}
	iso := open(t, image)
	if label := strings.TrimRight(iso.Label(), " \x00"); label != AgentLabel {
		t.Errorf("the machine looks for %s; this is %q", AgentLabel, label)
	}
	if got, err := iso.ReadFile("fleet-agent"); err != nil || !bytes.Equal(got, binary) {
		t.Errorf("the binary has %d bytes of %d, %v", len(got), len(binary), err)
	}
	for _, name := range []string{"fleet-agent", "install.sh", "setup.sh"} {
		if info, err := iso.Stat(name); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s can't be run: %v, %v", name, info, err)
		}
	}
	if got, err := iso.ReadFile("fleet-agent-podman.socket"); err != nil || string(got) != "[Socket]\n" {
		t.Errorf("names that are alike: %q, %v", got, err)
	}
}
