package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nationtech/fleet/test/controlplane/internal/supervise"
)

// The control socket speaks HTTP:
//
//	GET  /components                 statuses, sorted by name
//	POST /components/NAME/ACTION     stop, start, restart, kill, wait
//	POST /git/NAME                   make a repository
//	POST /hook/NAME                  ask Flux to fetch a repository
//
// An error is a status of 400 and above with a text of one line.

// actionDeadline bounds an action; the API server takes a few seconds.
const actionDeadline = time.Minute

func (p *Plane) serveControl() (closeControl func(), _ error) {
	socket := p.layout.Socket()
	if err := removeFile(socket); err != nil {
		return nil, err
	}
	listener, err := listenUnix(socket)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /components", p.getComponents)
	mux.HandleFunc("POST /components/{name}/{action}", p.postAction)
	mux.HandleFunc("POST /git/{name...}", p.postGit)
	mux.HandleFunc("POST /hook/{name...}", p.postHook)
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }()
	return func() {
		_ = server.Close()
		_ = removeFile(socket)
	}, nil
}

func (p *Plane) getComponents(w http.ResponseWriter, _ *http.Request) {
	statuses := make([]supervise.Status, 0, len(p.names))
	for _, name := range p.names {
		statuses = append(statuses, p.units[name].Status())
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(statuses)
}

func (p *Plane) postAction(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), actionDeadline)
	defer cancel()
	unit, ok := p.units[r.PathValue("name")]
	if !ok {
		http.Error(w, fmt.Sprintf("no component %q runs here; there are %s", r.PathValue("name"), strings.Join(p.names, ", ")), http.StatusNotFound)
		return
	}
	var err error
	switch r.PathValue("action") {
	case "start":
		err = unit.Start(ctx, false)
	case "stop":
		err = unit.Stop(ctx)
	case "restart":
		if err = unit.Stop(ctx); err == nil {
			err = unit.Start(ctx, false)
		}
	case "kill":
		err = unit.Kill(ctx)
	case "wait":
		err = unit.AwaitReady(ctx)
	default:
		http.NotFound(w, r)
		return
	}
	p.report.flush()
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

func (p *Plane) postGit(w http.ResponseWriter, r *http.Request) {
	if p.git == nil {
		http.Error(w, "the git server does not run here", http.StatusConflict)
		return
	}
	if _, err := p.git.Create(r.PathValue("name")); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "http://%s/%s.git\n", p.layout.addr(portGit), r.PathValue("name"))
}

func (p *Plane) postHook(w http.ResponseWriter, r *http.Request) {
	if p.client == nil {
		return // nobody to tell
	}
	// A pusher must not wait for an API server that is down.
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	asked, err := requestReconcile(ctx, p.client, p.layout.addr(portGit), r.PathValue("name"), time.Now())
	for _, name := range asked {
		fmt.Fprintf(w, "flux: reconcile requested for %s\n", name)
	}
	if err != nil {
		fmt.Fprintf(w, "flux: reconcile not requested: %v\n", err)
	}
}

// Control talks to the control socket of a running control plane.
type Control struct{ Socket string }

// Statuses returns the status of every component.
func (c Control) Statuses(ctx context.Context) ([]supervise.Status, error) {
	raw, err := c.do(ctx, http.MethodGet, "/components")
	if err != nil {
		return nil, err
	}
	var statuses []supervise.Status
	return statuses, json.Unmarshal(raw, &statuses)
}

// Act does an action on a component: start, stop, restart, kill, wait.
func (c Control) Act(ctx context.Context, name, action string) error {
	_, err := c.do(ctx, http.MethodPost, "/components/"+name+"/"+action)
	return err
}

// CreateGit makes a repository if there is none, and returns its URL.
func (c Control) CreateGit(ctx context.Context, name string) (string, error) {
	raw, err := c.do(ctx, http.MethodPost, "/git/"+name)
	return strings.TrimSpace(string(raw)), err
}

// Hook says that a repository was pushed to, and returns lines for the pusher.
func (c Control) Hook(ctx context.Context, repo string) (string, error) {
	raw, err := c.do(ctx, http.MethodPost, "/hook/"+repo)
	return string(raw), err
}

func (c Control) do(ctx context.Context, method, path string) ([]byte, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return dialUnix(c.Socket) },
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://controlplane"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("no control plane answers at %s: %w", c.Socket, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 400 {
		return nil, errors.New(strings.TrimSpace(string(raw)))
	}
	return raw, nil
}

// maxSocketPath is what fits into a unix socket address. Test folders are
// often longer, so those are reached through a descriptor of the folder.
const maxSocketPath = 100

func viaFolder[T any](path string, use func(string) (T, error)) (T, error) {
	if len(path) <= maxSocketPath {
		return use(path)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		var none T
		return none, err
	}
	defer folder.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path)))
}

func listenUnix(path string) (net.Listener, error) {
	return viaFolder(path, func(p string) (net.Listener, error) { return net.Listen("unix", p) })
}

func dialUnix(path string) (net.Conn, error) {
	return viaFolder(path, func(p string) (net.Conn, error) { return net.Dial("unix", p) })
}
