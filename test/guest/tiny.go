package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Tiny returns the kernel and the initramfs of a guest that needs nothing else: it takes
// an address by DHCP, answers on port 80 with what package tiny says, answers as a guest
// agent, and powers off when the power button is pressed. It has 64 MiB to live in.
func Tiny(ctx context.Context) (kernelFile, initrd string, err error) {
	dir, err := tinyFiles(ctx)
	return filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd"), err
}

// TinyImage returns a disk image, in qcow2, that boots the tiny guest.
func TinyImage(ctx context.Context) (string, error) {
	dir, err := tinyFiles(ctx)
	if err != nil {
		return "", err
	}
	d := disk{content: dir, size: 64 << 20, boot: boot{kernel: "/vmlinuz", initrd: "/initrd", cmdline: "console=tty0 console=ttyS0"}}
	return made(ctx, filepath.Base(dir)+"-"+key(d.boot.config())+".qcow2", func(path string) error { return d.write(ctx, path) })
}

// tinyFiles is a folder with nothing but vmlinuz and initrd.
func tinyFiles(ctx context.Context) (string, error) {
	from, err := kernel(ctx)
	if err != nil {
		return "", err
	}
	program, err := buildInit(ctx)
	if err != nil {
		return "", err
	}
	return made(ctx, "tiny-"+key(string(program), filepath.Base(from)), func(path string) error {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		vmlinuz, err := os.ReadFile(filepath.Join(from, "vmlinuz"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, "vmlinuz"), vmlinuz, 0o644); err != nil {
			return err
		}
		packed, err := initramfs(program, filepath.Join(from, "modules"))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, "initrd"), packed, 0o644)
	})
}

// buildInit compiles the guest's program, which lies beside this package. It needs the go
// command and runs in the module.
func buildInit(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "fleet-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "init")
	const source = "github.com/nationtech/fleet/test/guest/init"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s", source, err, out)
	}
	return os.ReadFile(binary)
}

// initramfs packs the program and the modules, which it loads in the order of their names.
func initramfs(program []byte, modules string) ([]byte, error) {
	files, err := os.ReadDir(modules)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	a := &archive{w: z}
	for _, dir := range []string{"dev", "proc", "sys", "seed", "modules"} {
		a.add(dir, folder|0o755, nil)
	}
	// The kernel opens it for the program's output before that can make anything.
	a.device("dev/console", 0o600, 5, 1)
	a.add("init", regular|0o755, program)
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(modules, f.Name()))
		if err != nil {
			return nil, err
		}
		a.add("modules/"+f.Name(), regular|0o644, content)
	}
	if err := a.close(); err != nil {
		return nil, err
	}
	err = z.Close()
	return packed.Bytes(), err
}
