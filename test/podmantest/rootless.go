package podmantest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// The users of rootless podmans: one for each slot, and for each the users that its
// containers may have. Nobody else on a machine has numbers that high.
const (
	firstUID    = 1_900_000_000
	firstSubUID = 2_000_000_000
	subUIDs     = 65536
)

// Rootless returns why this machine can't have a rootless podman, or nil: a kernel may
// refuse user namespaces to users without rights.
func Rootless(ctx context.Context) error {
	if err := preflight(true); err != nil {
		return err
	}
	uid := strconv.Itoa(firstUID + slots)
	out, err := exec.CommandContext(ctx, "setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all", "--", "unshare", "--user", "true").CombinedOutput()
	if err != nil {
		return fmt.Errorf("a user without rights gets no user namespace: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// userName is the user's in its own processes.
const userName = "fleet-rootless"

func (r record) firstSub() int { return firstSubUID + (r.UID-firstUID)*subUIDs }

// isOf reports whether a user is the podman's or one of its containers'.
func (r record) isOf(uid int) bool {
	return uid == r.UID || uid >= r.firstSub() && uid < r.firstSub()+subUIDs
}

func (r record) userDir() string { return filepath.Join(r.RunDir, "user") }

// userFiles are the machine's files that name users, each with one more in it.
func (r record) userFiles() map[string]string {
	sub := fmt.Sprintf("%s:%d:%d\n", userName, r.firstSub(), subUIDs)
	return map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::%s:/usr/sbin/nologin\n", userName, r.UID, r.UID, r.Dir),
		"group":  fmt.Sprintf("%s:x:%d:\n", userName, r.UID),
		"subuid": sub, "subgid": sub,
	}
}

// writeUser makes the user, in files that asUser puts in the place of the machine's.
func (r record) writeUser() error {
	for _, dir := range []string{r.userDir(), filepath.Join(r.RunDir, "xdg"), filepath.Join(r.RunDir, "dev")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for name, line := range r.userFiles() {
		is, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.userDir(), name), append(is, line...), 0o644); err != nil {
			return err
		}
	}
	for _, dir := range []string{r.Dir, r.RunDir, filepath.Join(r.RunDir, "xdg")} {
		if err := os.Chown(dir, r.UID, r.UID); err != nil {
			return err
		}
	}
	return nil
}

func (r record) userEnv() []string {
	return []string{"HOME=" + r.Dir, "USER=" + userName, "XDG_RUNTIME_DIR=" + filepath.Join(r.RunDir, "xdg")}
}

// asUserScript runs a command as the user, in a mount namespace of its own in which the
// machine knows that user, what it mounts may be passed on as podman wants it, and
// /dev/net/tun may be used by everybody, as udev makes it.
const asUserScript = `set -eu
uid=$1 dir=$2
shift 2
mount --make-rshared /
for name in passwd group subuid subgid; do mount --bind "$dir/user/$name" "/etc/$name"; done
case $(stat -c %a /dev/net/tun) in
*6) ;;
*)
  mount -t tmpfs -o mode=755 tmpfs "$dir/dev"
  mknod -m 666 "$dir/dev/tun" c 10 200
  mount --bind "$dir/dev/tun" /dev/net/tun
  ;;
esac
cd /
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"
`

func (r record) asUser(ctx context.Context, command []string) *exec.Cmd {
	args := append([]string{"--mount", "sh", "-c", asUserScript, "sh", strconv.Itoa(r.UID), r.RunDir}, command...)
	return exec.CommandContext(ctx, "unshare", args...)
}
