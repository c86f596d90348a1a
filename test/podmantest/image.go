package podmantest

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// testApp is the package of the program in TestImage.
const testApp = "github.com/nationtech/fleet/test/podmantest/testapp"

// BuildTestApp compiles package testapp, which lies beside this one, into dir and
// returns the binary's path. It needs the go command and runs in the module.
func BuildTestApp(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "testapp")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, testApp)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", testApp, err, out)
	}
	return binary, nil
}

// LoadImage makes the image name, such as localhost/app:1, with the static
// binary at /app as its only file and entry point. No registry takes part.
func (p *Podman) LoadImage(name, binary string) error {
	layer, err := os.CreateTemp(p.rec.RunDir, "layer-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	if err := writeLayer(layer, binary); err != nil {
		return fmt.Errorf("pack %s: %w", binary, err)
	}
	if err := os.Chmod(layer.Name(), 0o644); err != nil {
		return err
	}
	_, err = p.Run("import", "--quiet", "--change", `ENTRYPOINT ["/app"]`, layer.Name(), name)
	return err
}

func writeLayer(f *os.File, binary string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
