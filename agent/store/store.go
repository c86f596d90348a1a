// Package store keeps on disk what the agent must not forget: what the device was
// told, and how far it came. There is one file per deployment of each kind, each
// replaced at once. A file that can't be read is set aside and counts as absent,
// so that one bad sector does not take the device down.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleet/contracts"
)

// Store is a directory. Its methods may be called at the same time for different
// deployments.
type Store struct {
	dir  string
	log  *slog.Logger
	lock *os.File
}

const (
	desiredDir = "desired"
	recordDir  = "record"
	goodDir    = "good"
	agentFile  = "agent.json"
	lockFile   = "lock"
)

// Open makes the directory if it is missing and takes it for this process alone;
// ErrInUse tells that another has it.
func Open(dir string, log *slog.Logger) (*Store, error) {
	for _, d := range []string{dir, filepath.Join(dir, desiredDir), filepath.Join(dir, recordDir), filepath.Join(dir, goodDir)} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("open state directory: %w", err)
		}
	}
	lock, err := acquire(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	s := &Store{dir: dir, log: log, lock: lock}
	return s, s.sweep()
}

// OpenToRead opens a directory that a running agent may have. Nothing is written
// or set aside through it.
func OpenToRead(dir string) (*Store, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	return &Store{dir: dir, log: slog.New(slog.DiscardHandler)}, nil
}

// Close lets another process have the directory.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// sweep removes what a crash left of unfinished writes.
func (s *Store) sweep() error {
	for _, d := range []string{"", desiredDir, recordDir, goodDir} {
		left, err := filepath.Glob(filepath.Join(s.dir, d, ".new-*"))
		if err != nil {
			return err
		}
		for _, f := range left {
			if err := remove(f); err != nil {
				return fmt.Errorf("remove unfinished file: %w", err)
			}
		}
	}
	return nil
}

func (s *Store) path(dir string, n contracts.DeploymentName) string {
	return filepath.Join(s.dir, dir, string(n)+".json")
}

// PutOrder remembers what the device was told, as it was signed. An order to remove a
// deployment stays too: an older one that came again would be taken for news.
func (s *Store) PutOrder(o contracts.Order) error {
	if err := WriteFile(s.path(desiredDir, o.Deployment), o.Envelope, 0o600); err != nil {
		return fmt.Errorf("store the order for %s: %w", o.Deployment, err)
	}
	return nil
}

// Orders are all that the device was given. The signatures counted when they came, and
// are not looked at again: whoever can write to this disk has the device anyway, and the
// operator may have another key by now.
func (s *Store) Orders() (map[contracts.DeploymentName]contracts.Order, error) {
	return readAll(s, desiredDir, func(n contracts.DeploymentName, data []byte) (contracts.Order, error) {
		return contracts.DecodeOrder(data, n)
	})
}

// PutGood remembers what was last healthy of a deployment, to go back to.
func (s *Store) PutGood(d contracts.DesiredState) error {
	data, err := contracts.Encode(d)
	if err != nil {
		return fmt.Errorf("store what is healthy of %s: %w", d.Deployment, err)
	}
	if err := WriteFile(s.path(goodDir, d.Deployment), data, 0o600); err != nil {
		return fmt.Errorf("store what is healthy of %s: %w", d.Deployment, err)
	}
	return nil
}

// Good is what was last healthy of each deployment.
func (s *Store) Good() (map[contracts.DeploymentName]contracts.DesiredState, error) {
	return readAll(s, goodDir, func(n contracts.DeploymentName, data []byte) (contracts.DesiredState, error) {
		d, err := contracts.DecodeDesiredState(data)
		if err == nil && d.Deployment != n {
			err = fmt.Errorf("it is of deployment %s", d.Deployment)
		}
		return d, err
	})
}

// PutRecord remembers how far a deployment came.
func (s *Store) PutRecord(r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("store record of %s: %w", r.Report.Deployment, err)
	}
	if err := WriteFile(s.path(recordDir, r.Report.Deployment), data, 0o600); err != nil {
		return fmt.Errorf("store record of %s: %w", r.Report.Deployment, err)
	}
	return nil
}

// DeleteRecord forgets a deployment that is gone and reported so.
func (s *Store) DeleteRecord(n contracts.DeploymentName) error {
	if err := errors.Join(remove(s.path(recordDir, n)), remove(s.path(goodDir, n))); err != nil {
		return fmt.Errorf("forget record of %s: %w", n, err)
	}
	return nil
}

// Records are how far every deployment came.
func (s *Store) Records() (map[contracts.DeploymentName]Record, error) {
	return readAll(s, recordDir, func(n contracts.DeploymentName, data []byte) (Record, error) {
		var r Record
		if err := json.Unmarshal(data, &r); err != nil {
			return r, err
		}
		if r.Report.Deployment != n {
			return r, fmt.Errorf("it is of deployment %q", r.Report.Deployment)
		}
		// Encode refuses what the bus would refuse.
		_, err := contracts.Encode(r.Report)
		return r, err
	})
}

func readAll[T any](s *Store, dir string, decode func(contracts.DeploymentName, []byte) (T, error)) (map[contracts.DeploymentName]T, error) {
	all := map[contracts.DeploymentName]T{}
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		// Only the identity was made so far; no agent has run.
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		path := filepath.Join(s.dir, dir, e.Name())
		v, n, err := readOne(path, base, decode)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Removed since the directory was listed.
		case err != nil:
			s.log.Error("state file can't be read and is set aside", "file", path, "error", err)
			if s.lock != nil {
				if err := setAside(path); err != nil {
					return nil, err
				}
			}
		default:
			all[n] = v
		}
	}
	return all, nil
}

func readOne[T any](path, base string, decode func(contracts.DeploymentName, []byte) (T, error)) (T, contracts.DeploymentName, error) {
	var none T
	n, err := contracts.ParseDeploymentName(base)
	if err != nil {
		return none, "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return none, "", err
	}
	v, err := decode(n, data)
	return v, n, err
}
