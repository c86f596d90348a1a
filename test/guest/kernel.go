package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// tinyModules are what the tiny guest's program needs: disks, network, console and guest
// agent, the balloon that gives memory back, the power button, and the seed's file system.
var tinyModules = []string{
	"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_balloon", "button", "evdev", "isofs",
}

// debian is what the processor architecture of this machine is called there.
func debian() string { return runtime.GOARCH }

// kernel returns a folder with vmlinuz and, in the order in which they are to be loaded,
// the modules of the tiny guest. It is Debian's kernel for virtual machines.
func kernel(ctx context.Context) (string, error) {
	const name = "linux-image-cloud-"
	return made(ctx, "kernel-"+key(append(tinyModules, name, debian())...), func(path string) error {
		dir, err := os.MkdirTemp(filepath.Dir(path), "unpack-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := download(ctx, dir, name+debian()); err != nil {
			return err
		}
		return takeKernel(ctx, dir, path)
	})
}

// download gets the package that a kernel's meta package stands for, and unpacks it in the
// folder. What apt knows may be older than what the mirror has: then it is asked anew.
func download(ctx context.Context, dir, meta string) error {
	attempt := func() error {
		out, err := run(ctx, dir, "apt-cache", "depends", "--important", meta)
		if err != nil {
			return err
		}
		name := ""
		for line := range strings.Lines(out) {
			if after, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
				name = "linux-image-" + after
			}
		}
		if name == "" {
			return fmt.Errorf("package %s names no kernel:\n%s", meta, out)
		}
		// As this user: apt's own may not write here.
		_, err = run(ctx, dir, "apt-get", "-o", "APT::Sandbox::User=root", "download", "--quiet", name)
		return err
	}
	if err := attempt(); err != nil {
		if _, update := run(ctx, dir, "apt-get", "update", "--quiet"); update != nil {
			return errors.Join(err, update)
		}
		if err := attempt(); err != nil {
			return err
		}
	}
	file, err := one(dir, "*.deb")
	if err != nil {
		return err
	}
	_, err = run(ctx, dir, "dpkg-deb", "--extract", file, dir)
	return err
}

// takeKernel takes from an unpacked package what a tiny guest needs.
func takeKernel(ctx context.Context, dir, into string) error {
	vmlinuz, err := one(dir, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	tree, err := one(dir, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return err
	}
	if err := decompress(ctx, tree); err != nil {
		return err
	}
	modules, err := readModules(tree)
	if err != nil {
		return err
	}
	files, err := modules.order(tinyModules...)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(into, "modules"), 0o755); err != nil {
		return err
	}
	if err := os.Rename(vmlinuz, filepath.Join(into, "vmlinuz")); err != nil {
		return err
	}
	for n, file := range files {
		if err := os.Rename(file, filepath.Join(into, "modules", fmt.Sprintf("%02d-%s.ko", n, moduleName(file)))); err != nil {
			return err
		}
	}
	return nil
}

// decompress unpacks the modules of a kernel that has them compressed.
func decompress(ctx context.Context, tree string) error {
	for suffix, tool := range map[string]string{".ko.xz": "xz", ".ko.zst": "zstd"} {
		_, err := run(ctx, tree, "find", ".", "-name", "*"+suffix, "-exec", tool, "--decompress", "--quiet", "{}", "+")
		if err != nil {
			return err
		}
	}
	return nil
}

// one is the only file that matches one of the patterns.
func one(dir string, patterns ...string) (string, error) {
	var all []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", err
		}
		all = append(all, found...)
	}
	if len(all) != 1 {
		return "", fmt.Errorf("%s has %d files like %s, want one", dir, len(all), strings.Join(patterns, " or "))
	}
	return all[0], nil
}
