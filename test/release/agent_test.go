package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func packageOf(dist string) string {
	return filepath.Join(dist, "fleet-agent_1.2.3_"+runtime.GOARCH+".deb")
}

// lookPath skips the test where a program of Debian's is not there.
func lookPath(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) {
		t.Skip("no " + name + " on this machine")
	}
}

// execLine is a command of a unit.
var execLine = regexp.MustCompile(`(?m)^Exec\w+=(\S+)`)

// hasAgent holds the package to what the unit and install.sh expect.
func hasAgent(t *testing.T, dist string) {
	lookPath(t, "dpkg-deb")
	dir := t.TempDir()
	run(t, dir, "dpkg-deb", "--extract", packageOf(dist), "root")
	run(t, dir, "dpkg-deb", "--control", packageOf(dist), "control")
	for field, want := range map[string]string{"Package": "fleet-agent", "Version": "1.2.3", "Architecture": runtime.GOARCH} {
		if got := strings.TrimSpace(run(t, dir, "dpkg-deb", "--field", packageOf(dist), field)); got != want {
			t.Errorf("field %s is %q, want %q", field, got, want)
		}
	}
	for _, script := range []string{"preinst", "postinst", "prerm", "postrm"} {
		run(t, dir, "sh", "-n", filepath.Join("control", script))
	}
	units, err := filepath.Glob(filepath.Join(root, "agent/packaging/fleet-agent*"))
	if err != nil || len(units) == 0 {
		t.Fatalf("the units: %q, %v", units, err)
	}
	for _, unit := range units {
		want, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "root/usr/lib/systemd/system", filepath.Base(unit)))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s of the package is not the repository's: %v", filepath.Base(unit), err)
		}
	}
	unit, err := os.ReadFile(filepath.Join(dir, "root/usr/lib/systemd/system/fleet-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range execLine.FindAllStringSubmatch(string(unit), -1) {
		if got := run(t, dir, filepath.Join(dir, "root/usr/bin", m[1]), "version"); got != tag+"\n" {
			t.Errorf("%s says that it is %q", m[1], got)
		}
	}
	for name, mode := range map[string]os.FileMode{"usr/bin/fleet-agent": 0o755, "usr/libexec/fleet-agent/setup.sh": 0o755, "etc/fleet-agent": os.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(dir, "root", name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want %v", name, info, err, mode)
		}
	}
	t.Run("lintian", func(t *testing.T) {
		lookPath(t, "lintian")
		run(t, dir, "lintian", "--fail-on", "error,warning", packageOf(dist))
	})
}

// life installs, updates, removes and purges the package in a copy of this system that is
// gone afterwards; systemd does not run there, as it does not where an image is made.
const life = `
deb=$1 over=$2
mount -t tmpfs none "$over"
mkdir "$over/upper" "$over/work" "$over/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" "$over/root" || { echo "no overlay file system here" >&2; exit 77; }
mount -t proc proc "$over/root/proc"
mount --rbind /dev "$over/root/dev"
cp "$deb" "$over/root/fleet-agent.deb"
chroot "$over/root" sh -eu <<'IN'
fail() { echo "$*" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
rm -rf /run/systemd /etc/fleet-agent /var/lib/fleet-agent
userdel fleet-agent 2>/dev/null || true
enabled=/etc/systemd/system/multi-user.target.wants/fleet-agent.service
socket=/var/lib/fleet-agent/.config/systemd/user/sockets.target.wants/podman.socket

touch /usr/local/bin/fleet-agent
dpkg --force-depends -i /fleet-agent.deb 2>refused && fail "installed over what install.sh has installed"
grep -q "rm /usr/local/bin/fleet-agent; systemctl" refused || fail "$(cat refused)"
[ ! -e /usr/bin/fleet-agent ] || fail "half installed"
rm /usr/local/bin/fleet-agent

mkdir /etc/fleet-agent
echo "device: till-1" >/etc/fleet-agent/config.yaml
for time in first second; do
  dpkg --force-depends -i /fleet-agent.deb >&2
  [ "$(dpkg-query -W -f '${Status}' fleet-agent)" = "install ok installed" ] || fail "not installed the $time time"
  [ "$(stat -c '%U %a' /var/lib/fleet-agent)" = "fleet-agent 711" ] || fail "/var/lib/fleet-agent is $(stat -c '%U %a' /var/lib/fleet-agent)"
  for file in /etc/subuid /etc/subgid; do
    [ "$(grep -c '^fleet-agent:[0-9]*:65536$' $file)" = 1 ] || fail "$file has $(grep fleet-agent $file)"
  done
  [ -L "$enabled" ] || fail "the service is not enabled"
  [ -L "$socket" ] && [ "$(stat -c %U "$socket")" = fleet-agent ] || fail "podman's socket is not enabled"
  [ -e /var/lib/systemd/linger/fleet-agent ] || fail "the session does not outlive a login"
  [ "$(cat /etc/fleet-agent/config.yaml)" = "device: till-1" ] || fail "the configuration was changed"
done
runuser -u fleet-agent -- fleet-agent validate-config || fail "the configuration is not valid"

echo "podman: {socket: 'unix:///run/fleet-agent/podman.sock'}" >>/etc/fleet-agent/config.yaml
dpkg --force-depends -i /fleet-agent.deb >&2
[ -L /etc/systemd/system/sockets.target.wants/fleet-agent-podman.socket ] || fail "the socket of root's podman is not enabled"

touch /var/lib/fleet-agent/identity.nk
dpkg -r fleet-agent >&2
[ ! -e /usr/bin/fleet-agent ] && [ ! -e /usr/libexec/fleet-agent ] || fail "not removed"
[ -e /var/lib/fleet-agent/identity.nk ] && [ -e /etc/fleet-agent/config.yaml ] || fail "key or configuration went with the package"
dpkg -P fleet-agent >&2
for path in /var/lib/fleet-agent /etc/fleet-agent "$enabled" /var/lib/systemd/linger/fleet-agent; do
  [ ! -e "$path" ] && [ ! -L "$path" ] || fail "$path is there after the purge"
done
IN
`

func installsAgent(t *testing.T, dist string) {
	lookPath(t, "dpkg")
	lookPath(t, "unshare")
	if os.Geteuid() != 0 {
		t.Skip("it takes root to install a package")
	}
	over := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-euc", life, "sh", packageOf(dist), over).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 77 {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
