package guest

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Registry is the name under which a Debian guest finds the registry of demo and tests:
// its network's gateway at RegistryPort, over plain HTTP.
const (
	Registry     = "registry.fleet.test"
	RegistryPort = 30500
)

// Architectures of guests, as libvirt calls them.
const x86 = "x86_64"

// rootfs has what is put into a Debian guest beside packages.
//
//go:embed all:rootfs
var rootfs embed.FS

// debianPackages are a system that cloud-init configures, that becomes a device whether
// its podman is root's or not, and that one can log in to.
var debianPackages = []string{
	"linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "kmod", "iproute2", "e2fsprogs",
	"cloud-init", "cloud-guest-utils", "openssh-server", "sudo", "qemu-guest-agent", "ca-certificates", "libnss-myhostname",
	"dbus", "dbus-user-session", "libpam-systemd", "uidmap", "slirp4netns",
	"podman", "crun", "catatonit", "netavark", "aardvark-dns", "iptables", "nftables",
}

// release is the one that the guest is of, on whatever system it is made.
const release = "bookworm"

// debianSize is of the disk; a machine may have a larger one, which cloud-init fills.
const debianSize = 3 << 30

// debianBoot shows all that the kernel says on the serial console, where whoever waits for
// a machine looks first.
var debianBoot = boot{kernel: "/vmlinuz", initrd: "/initrd.img", cmdline: "root=LABEL=" + rootLabel + " ro console=tty0 console=ttyS0 net.ifnames=0"}

// Debian returns a disk image, in qcow2, of a Debian with cloud-init, ssh, the guest agent
// and podman. It is made on this machine, which takes about two minutes the first time.
func Debian(ctx context.Context, arch string) (string, error) {
	if arch != x86 {
		return "", fmt.Errorf("no Debian guest for %s: it is made for %s only", arch, x86)
	}
	recipe, err := debianRecipe()
	if err != nil {
		return "", err
	}
	return made(ctx, "debian-"+arch+"-"+key(recipe...)+".qcow2", func(path string) error {
		tree := path + ".root"
		if err := os.RemoveAll(tree); err != nil { // of a build that was killed
			return err
		}
		defer os.RemoveAll(tree)
		if err := bootstrap(ctx, tree); err != nil {
			return err
		}
		return disk{content: tree, size: debianSize, boot: debianBoot}.write(ctx, path)
	})
}

// debianRecipe is all that the image is made of but for the packages' versions.
func debianRecipe() ([]string, error) {
	parts := append([]string{release, debianBoot.config(), fmt.Sprint(int64(debianSize)), prepare, finish}, debianPackages...)
	return parts, fs.WalkDir(rootfs, "rootfs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := rootfs.ReadFile(path)
		parts = append(parts, path, string(content))
		return err
	})
}

// prepare is done before packages are installed, whose scripts see it: it puts the files of
// rootfs, which lie beside the script, into the guest.
const prepare = `set -eu
cp -a "$(dirname "$0")/rootfs/." "$1/"
chmod 0755 "$1/etc/initramfs-tools/hooks/fleet" "$1/usr/local/sbin/fleet-registry"
`

// finish is done at the end: what each machine has of its own is made at its first boot,
// and what a machine that lives for minutes does not need does not run.
const finish = `set -eu
chroot "$1" systemctl enable systemd-networkd.service fleet-registry.service
chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  systemd-firstboot.service e2scrub_reap.service podman-auto-update.service podman-auto-update.timer podman-restart.service
chroot "$1" systemctl --global mask podman-auto-update.service podman-auto-update.timer podman-restart.service
rm -f "$1"/etc/ssh/ssh_host_*
: >"$1/etc/machine-id"
rm -f "$1/var/lib/dbus/machine-id"
echo debian >"$1/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$1/etc/hosts"
echo 'LABEL=` + rootLabel + ` / ext4 defaults 0 1' >"$1/etc/fstab"
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*
`

// bootstrap makes the guest's file system in a folder. As root, for its files are of many
// users.
func bootstrap(ctx context.Context, tree string) error {
	work, err := os.MkdirTemp(filepath.Dir(tree), "bootstrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	sub, err := fs.Sub(rootfs, "rootfs")
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(work, "rootfs"), sub); err != nil {
		return err
	}
	args := []string{
		"TMPDIR=" + work, "DEBIAN_FRONTEND=noninteractive",
		// What is mounted in the folder meanwhile is gone when it ends, however that is.
		"unshare", "--mount", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", "--include=" + strings.Join(debianPackages, ","),
		"--aptopt=Acquire::Languages none", "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold",
	}
	for _, unread := range []string{"man", "doc", "locale", "info", "lintian"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+unread+"/*")
	}
	for hook, script := range map[string]string{"--essential-hook": prepare, "--customize-hook": finish} {
		path := filepath.Join(work, strings.TrimPrefix(hook, "--"))
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			return err
		}
		args = append(args, hook+"="+path)
	}
	args = append(args, release, tree)
	if sources := debianSources(); sources != "" {
		args = append(args, sources)
	}
	_, err = run(ctx, work, "env", args...)
	return err
}

// debianSources is the file that tells where this machine gets its packages, when it is of
// the same release; otherwise packages come from where mmdebstrap finds them.
func debianSources() string {
	about, err := os.ReadFile("/etc/os-release")
	if err != nil || !strings.Contains(string(about), "VERSION_CODENAME="+release) {
		return ""
	}
	for _, file := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
		if there(file) {
			return file
		}
	}
	return ""
}
