package plane

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Ports are the ports of a control plane, by name.
type Ports map[string]int

const (
	portEtcd             = "etcd"
	portAPIServer        = "kube-apiserver"
	portControllers      = "kube-controller-manager"
	portNATS             = "nats"
	portNATSMonitor      = "nats-monitor"
	portNATSProfile      = "nats-profile"
	portGit              = "git"
	portRegistry         = "registry"
	portSource           = "source-controller"
	portSourceHealth     = "source-controller-health"
	portSourceMetrics    = "source-controller-metrics"
	portKustomizeHealth  = "kustomize-controller-health"
	portKustomizeMetrics = "kustomize-controller-metrics"
)

var portNames = []string{
	portEtcd, portAPIServer, portControllers, portNATS, portNATSMonitor, portNATSProfile, portGit, portRegistry,
	portSource, portSourceHealth, portSourceMetrics, portKustomizeHealth, portKustomizeMetrics,
}

const (
	// blockSize is how many consecutive ports one control plane reserves.
	blockSize = 16
	// Blocks are below the ports that the kernel gives to outgoing
	// connections: else one of those could take the port of a component
	// while it restarts.
	firstPort, lastPort = 16000, 32000
)

// reservePorts chooses a block of free ports, or takes the one that dir had
// before, and reserves it on this machine until release is called: control
// planes of other tests leave it alone even while nothing listens there.
func reservePorts(dir string) (ports Ports, release func(), _ error) {
	file := filepath.Join(dir, "ports.json")
	raw, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &ports); err != nil {
			return nil, nil, fmt.Errorf("decode %s: %w", file, err)
		}
		release, err := reserveAgain(ports)
		if err != nil {
			return nil, nil, fmt.Errorf("%w; the state in %s refers to its ports (remove the folder to begin anew)", err, dir)
		}
		return ports, release, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}

	count := (lastPort - firstPort) / blockSize
	for _, i := range rand.Perm(count) {
		candidate := block(firstPort + i*blockSize)
		release, err := lockBlock(candidate)
		if err != nil {
			return nil, nil, err
		}
		if release == nil {
			continue
		}
		if free(candidate) != nil {
			release()
			continue
		}
		raw, err := json.Marshal(candidate)
		if err == nil {
			err = os.WriteFile(file, raw, 0o644)
		}
		if err != nil {
			release()
			return nil, nil, err
		}
		return candidate, release, nil
	}
	return nil, nil, fmt.Errorf("no %d free consecutive ports between %d and %d", blockSize, firstPort, lastPort)
}

// reserveAgain waits a little for the ports: the processes of a supervisor
// that was killed a moment ago may still be going.
func reserveAgain(ports Ports) (release func(), err error) {
	deadline := time.Now().Add(5 * time.Second)
	for {
		release, err = lockBlock(ports)
		if err != nil {
			return nil, err
		}
		if release == nil {
			err = fmt.Errorf("ports from %d on are reserved by another control plane", ports[portNames[0]])
		} else if err = free(ports); err == nil {
			return release, nil
		} else {
			release()
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func block(base int) Ports {
	p := Ports{}
	for i, name := range portNames {
		p[name] = base + i
	}
	return p
}

// lockBlock takes the machine-wide lock of a block, which ends with this
// process. It returns nil when another process has it.
func lockBlock(p Ports) (release func(), _ error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("controlplane-ports-%d", os.Getuid()))
	file := filepath.Join(dir, fmt.Sprint(p[portNames[0]]))
	for {
		// Whoever gives back the last lock takes the folder away, also while this looks
		// for it: then mkdir says that it exists, or open that it does not.
		if err := os.MkdirAll(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		locked, err := tryLock(f)
		if err != nil || !locked {
			f.Close()
			return nil, err
		}
		if !isAt(f, file) {
			f.Close()
			continue // likewise the file
		}
		return func() {
			removeLocked(f, file)
			removeLeftLocks(dir)
		}, nil
	}
}

// removeLeftLocks removes the files of processes that were killed, and the folder
// after the last.
func removeLeftLocks(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if locked, err := tryLock(f); err != nil || !locked {
			f.Close()
			continue
		}
		removeLocked(f, file)
	}
	_ = os.Remove(dir) // stays while it holds anything
}

// removeLocked removes a lock's file, if it is still that one, and then unlocks it:
// whoever opened it before sees that it is no longer there.
func removeLocked(f *os.File, file string) {
	if isAt(f, file) {
		_ = os.Remove(file) // a file that stays harms nobody
	}
	f.Close()
}

func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// isAt reports whether the open file is still the one at the path.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// free returns an error that names the first port on which something listens.
func free(p Ports) error {
	for _, name := range portNames {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p[name]))
		if err != nil {
			return fmt.Errorf("port of %s: %w", name, err)
		}
		l.Close()
	}
	return nil
}
