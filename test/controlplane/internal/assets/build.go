package assets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stillBuilding is how often a long build says that it is alive.
const stillBuilding = 30 * time.Second

// Ensure returns the folder with every binary, building what is missing.
// Each binary appears under its name only when finished, and the folder only
// when every binary is there, so that a killed build resumes and never leaves
// something half. Concurrent callers build once.
func (c Cache) Ensure(ctx context.Context, progress io.Writer) (string, error) {
	if c.Complete() {
		return c.Dir(), nil
	}
	if err := os.MkdirAll(c.Root, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, c.Dir()+".lock", func() {
		fmt.Fprintln(progress, "◎ another process builds the control plane: waiting for it")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.Complete() {
		return c.Dir(), nil
	}

	partial := c.Dir() + ".partial"
	module, err := c.writeModule(partial)
	if err != nil {
		return "", err
	}
	began := time.Now()
	fmt.Fprintln(progress, "► building the control plane (about 10 minutes on two cores, once; later runs use the cache)")
	for i, b := range Binaries {
		if err := b.build(ctx, module, partial, progress, fmt.Sprintf("%d/%d", i+1, len(Binaries))); err != nil {
			return "", err
		}
	}
	if err := os.RemoveAll(module); err != nil {
		return "", err
	}
	if err := os.Rename(partial, c.Dir()); err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "✔ control plane built in %s: %s\n", since(began), c.Dir())
	return c.Dir(), nil
}

// writeModule makes the module that the binaries are built in.
func (c Cache) writeModule(partial string) (string, error) {
	dir := filepath.Join(partial, "module")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), c.GoMod, 0o644); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "go.sum"), c.GoSum, 0o644)
}

func (b Binary) build(ctx context.Context, module, out string, progress io.Writer, position string) error {
	target := filepath.Join(out, b.Name)
	if _, err := os.Stat(target); err == nil {
		fmt.Fprintf(progress, "✔ %s %s (from an earlier build)\n", position, b.Name)
		return nil
	}
	fmt.Fprintf(progress, "◎ %s %s …\n", position, b.Name)
	began := time.Now()
	stop := tick(stillBuilding, func() {
		fmt.Fprintf(progress, "◎ %s %s … %s\n", position, b.Name, since(began))
	})
	defer stop()

	tmp := filepath.Join(out, "."+b.Name+".tmp")
	if _, err := goTool(ctx, module, "build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", ldflags(), "-o", tmp, b.Package); err != nil {
		return fmt.Errorf("build %s: %w", b.Name, err)
	}
	if b.Manifests != "" {
		src, err := goTool(ctx, module, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", b.Manifests)
		if err != nil {
			return fmt.Errorf("find the manifests of %s: %w", b.Name, err)
		}
		if err := copyManifests(string(bytes.TrimSpace(src)), out, b.Name); err != nil {
			return fmt.Errorf("copy the manifests of %s: %w", b.Name, err)
		}
	}
	if err := os.Rename(tmp, target); err != nil {
		return err
	}
	stop()
	fmt.Fprintf(progress, "✔ %s %s %s\n", position, b.Name, since(began))
	return nil
}

// goTool runs the go command in the module; CGO_ENABLED=0 throughout, because
// a mix of both rebuilds everything.
func goTool(ctx context.Context, module string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "PWD="+module)
	// The compilers are children of go: they have to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("the go command is not in PATH")
	}
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// copyManifests keeps the CRDs and roles of a Flux module, so that starting
// needs no module cache.
func copyManifests(module, out, name string) error {
	for from, to := range map[string]string{"config/crd/bases": "crds", "config/rbac": "rbac"} {
		dst := filepath.Join(out, to, name)
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		if err := os.CopyFS(dst, os.DirFS(filepath.Join(module, from))); err != nil {
			return err
		}
	}
	return nil
}

// lock takes an exclusive lock on path, which the kernel releases if we die.
func lock(ctx context.Context, path string, waiting func()) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	said := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !said {
			waiting()
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// tick calls f regularly until the returned function is called.
func tick(every time.Duration, f func()) (stop func()) {
	t, done := time.NewTicker(every), make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case <-t.C:
				f()
			case <-done:
				return
			}
		}
	}()
	stopped := false
	return func() {
		if !stopped {
			stopped = true
			t.Stop()
			close(done)
			<-finished
		}
	}
}
