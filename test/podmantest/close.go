package podmantest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Close removes everything: containers and pods (with their mounts, addresses
// and firewall rules), the service, what is left of processes and mounts, files.
// It goes on after an error and returns all of them.
func (p *Podman) Close() error {
	err := p.remove()
	if _, there := os.Stat(base); there != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	unlock, failed := lock(ctx)
	if failed == nil {
		unlock() // takes the folder away after the last one
	}
	return errors.Join(err, failed)
}

// remove is Close without the lock.
func (p *Podman) remove() error {
	var errs []error
	if _, err := os.Stat(filepath.Join(p.rec.RunDir, "containers.conf")); err == nil {
		// Pods first: it takes the infra containers, which rm refuses.
		for _, args := range [][]string{{"pod", "rm", "--all", "--force", "--time=0"}, {"rm", "--all", "--force", "--time=0"}, {"volume", "rm", "--all", "--force"}} {
			if _, err := p.Run(args...); err != nil {
				errs = append(errs, err)
			}
		}
	}
	errs = append(errs, stopProcess(p.rec.ServicePID, p.service), p.endProcesses(""), p.unmount(), p.removeBridge())
	errs = append(errs, os.RemoveAll(p.rec.RunDir), os.RemoveAll(p.rec.Dir), os.RemoveAll(p.rec.file()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close podman in %s: %w", p.rec.Dir, err)
	}
	return nil
}

// stopProcess ends a service that this process has started (cmd) or another (pid).
func stopProcess(pid int, cmd *exec.Cmd) error {
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
		return nil
	}
	if !alive(pid, "podman") {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return waitUntil(5*time.Second, func() bool { return !alive(pid, "podman") })
}

// endProcesses ends what is of this podman and has a word in its command line, such as
// conmon: whatever has the run directory in it, and for a rootless podman whatever is
// its user's.
func (p *Podman) endProcesses(word string) error {
	return waitUntil(5*time.Second, func() bool {
		left := 0
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return false
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == os.Getpid() {
				continue
			}
			line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			if err != nil || len(line) == 0 || !bytes.Contains(line, []byte(word)) || !p.rec.owns(e, line) {
				continue
			}
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return left == 0
	})
}

// owns reports whether a process is of this podman.
func (r record) owns(process os.DirEntry, line []byte) bool {
	if r.UID != 0 {
		info, err := process.Info()
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		return ok && r.isOf(int(stat.Uid))
	}
	return bytes.Contains(line, []byte(r.RunDir+"/")) && (bytes.Contains(line, []byte("podman")) || bytes.Contains(line, []byte("conmon")))
}

// unmount takes what is mounted below the directories away, the deepest first.
func (p *Podman) unmount() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) < 5 {
			continue
		}
		if at := fields[4]; strings.HasPrefix(at, p.rec.Dir+"/") || strings.HasPrefix(at, p.rec.RunDir+"/") {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
				return fmt.Errorf("unmount %s: %w", at, err)
			}
		}
	}
	return nil
}

// removeBridge removes the interface when netavark has not.
func (p *Podman) removeBridge() error {
	if _, err := os.Stat(filepath.Join("/sys/class/net", p.Bridge)); err != nil {
		return nil
	}
	if out, err := exec.Command("ip", "link", "delete", p.Bridge).CombinedOutput(); err != nil {
		return fmt.Errorf("delete bridge %s: %w: %s", p.Bridge, err, bytes.TrimSpace(out))
	}
	return nil
}

func waitUntil(limit time.Duration, done func() bool) error {
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			return fmt.Errorf("not ended within %s", limit)
		case <-tick.C:
		}
	}
	return nil
}
