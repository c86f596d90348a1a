package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/test/env"
)

// slack is by how much a test's figures may miss their budget: a machine that does other
// things too is slow, and a defect is slower by far more.
const slack = 20

// TestLoad is twenty devices with three Deployments for twenty seconds, and two thousand.
func TestLoad(t *testing.T) {
	for name, o := range map[string]options{
		"20 devices": {devices: 20, podman: true, connected: 20, deployments: 3, repeat: 1, duration: 20 * time.Second, heartbeat: 2 * time.Second},
		// Three lots that take turns.
		"25 devices, 10 connected at a time": {devices: 25, connected: 10, deployments: 3, repeat: 1, duration: 5 * time.Second, heartbeat: 2 * time.Second},
		"2000 devices":                       {devices: 2000, connected: 2000, deployments: 3, repeat: 1, duration: 10 * time.Second, heartbeat: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			// Not t.TempDir: the paths of unix sockets below it would be too long.
			dir, err := os.MkdirTemp("", "fleet-load-")
			if err != nil {
				t.Fatal(err)
			}
			o.dir, o.bin, o.manifests = dir, filepath.Join("..", "..", "bin"), filepath.Join("..", "..", "manifests")
			var table strings.Builder
			l := &load{options: o, progress: env.NewProgress(t.Output()), out: &table}
			if err := l.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Log(table.String())
			for _, f := range l.figures {
				if !f.kept(slack) {
					t.Errorf("%s: %s, %d times worse than %s (%s)", f.Name, number(f.Value, f.Unit), slack, f.Budget, number(f.Limit, f.Unit))
				}
			}
		})
	}
}
