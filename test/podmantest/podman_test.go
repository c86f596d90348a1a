package podmantest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleet/test/podmantest"
)

func TestSeveralRunBesideEachOtherAndLeaveNothing(t *testing.T) {
	ctx := t.Context()
	binary, err := podmantest.BuildTestApp(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	port := freePort(t)
	var wg sync.WaitGroup
	all := make([]*podmantest.Podman, n)
	for i := range n {
		wg.Go(func() {
			p, err := podmantest.Start(ctx, podmantest.Options{Name: fmt.Sprintf("t%d", i)})
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = p
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			if err := p.LoadImage("localhost/app:1", binary); err != nil {
				t.Error(err)
				return
			}
			// The same port on an address of its own, and 127.0.0.0/8 has plenty.
			if _, err := p.Run("run", "-d", "--pod=new:web", "-p", fmt.Sprintf("127.0.0.%d:%d:8080", i+11, port), "-e", fmt.Sprintf("MSG=from %d", i), "localhost/app:1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i := range n {
		if got, want := get(t, fmt.Sprintf("http://127.0.0.%d:%d/", i+11, port)), fmt.Sprintf("from %d\n", i); got != want {
			t.Errorf("podman %d answers %q, want %q", i, got, want)
		}
	}
	for i, p := range all {
		if err := p.Close(); err != nil {
			t.Errorf("close %d: %v", i, err)
		}
		for what, path := range map[string]string{"storage": p.Dir, "bridge": "/sys/class/net/" + p.Bridge} {
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s %s is left: %v", what, path, err)
			}
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(mounts), p.Dir+"/") {
			t.Errorf("mounts below %s are left:\n%s", p.Dir, mounts)
		}
	}
}

func TestRootless(t *testing.T) {
	ctx := t.Context()
	binary, err := podmantest.BuildTestApp(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := podmantest.Start(ctx, podmantest.Options{Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = p.Close()
		}
	})
	if out, err := p.Run("info", "--format", "{{.Host.Security.Rootless}}"); err != nil || strings.TrimSpace(string(out)) != "true" {
		t.Fatalf("rootless: %s, %v", out, err)
	}
	if err := p.LoadImage("localhost/app:1", binary); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	if _, err := p.Run("run", "-d", "--pod=new:web", "-p", fmt.Sprintf("127.0.0.1:%d:8080", port), "-e", "MSG=hi", "localhost/app:1"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); got != "hi\n" {
		t.Errorf("it answers %q", got)
	}
	if err := p.StopService(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); got != "hi\n" {
		t.Errorf("without the service it answers %q", got)
	}
	if err := p.StartService(ctx); err != nil {
		t.Fatal(err)
	}
	closed = true
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("storage %s is left: %v", p.Dir, err)
	}
}

func TestServiceStopsAndStartsWithoutTouchingContainers(t *testing.T) {
	p, err := podmantest.Start(t.Context(), podmantest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.StopService(); err != nil {
		t.Fatal(err)
	}
	found, err := podmantest.Attach(p.Dir)
	if err != nil || found.Socket != p.Socket {
		t.Fatalf("attach finds %+v, %v; want socket %s", found, err, p.Socket)
	}
	if err := p.StartService(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// freePort is one that nobody has on any address.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				return string(body)
			}
		}
		last = err
		select {
		case <-ctx.Done():
			t.Fatalf("get %s: %v", url, last)
		case <-tick.C:
		}
	}
}
