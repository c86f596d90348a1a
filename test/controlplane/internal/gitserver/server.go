// Package gitserver serves bare repositories over smart HTTP with git's own
// http-backend, and tells Flux about each push.
package gitserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Server serves the repositories beneath Root as /NAME.git.
type Server struct {
	Root string
	// Hooks is the folder of hooks of every repository.
	Hooks string
	// Log gets what git says on its error output.
	Log io.Writer

	git    string
	create sync.Mutex
}

var (
	service = regexp.MustCompile(`^/(.+)\.git/(HEAD|info/refs|git-upload-pack|git-receive-pack|objects/.+)$`)
	segment = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// New returns a server, and writes the hook that runs hookCommand after each
// push.
func New(root, hooks, hookCommand string, log io.Writer) (*Server, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("the git server needs git in PATH: %w", err)
	}
	for _, dir := range []string{root, hooks} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	script := "#!/bin/sh\n# The push has happened; nothing here may make it look failed.\n" + hookCommand + " || true\n"
	if err := os.WriteFile(filepath.Join(hooks, "post-receive"), []byte(script), 0o755); err != nil {
		return nil, err
	}
	return &Server{Root: root, Hooks: hooks, Log: log, git: git}, nil
}

// ValidName reports whether name may name a repository: path segments without
// dots at their start, so that nothing outside the root can be reached.
func ValidName(name string) bool {
	for _, s := range strings.Split(name, "/") {
		if !segment.MatchString(s) || strings.HasSuffix(s, ".git") {
			return false
		}
	}
	return true
}

// Path is where the named repository is.
func (s *Server) Path(name string) string { return filepath.Join(s.Root, name+".git") }

// Create makes an empty repository with the branch main, if there is none.
func (s *Server) Create(name string) (created bool, _ error) {
	if !ValidName(name) {
		return false, fmt.Errorf("%q cannot name a repository", name)
	}
	s.create.Lock()
	defer s.create.Unlock()
	path := s.Path(name)
	if _, err := os.Stat(path); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	// A rename makes it appear whole: a start after a kill finds all or nothing.
	tmp, err := os.MkdirTemp(s.Root, ".new-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command(s.git, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", tmp)
	cmd.Env = s.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("git init %s: %w: %s", name, err, out)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return false, err
	}
	return true, os.Rename(tmp, path)
}

// env configures git without a file in any home: the machine's own
// configuration must not change what tests see.
func (s *Server) env() []string {
	config := [][2]string{
		{"http.receivepack", "true"},
		{"core.hooksPath", s.Hooks},
		// git would leave a detached "gc --auto" behind after a push.
		{"receive.autogc", "false"},
		{"gc.auto", "0"},
		{"safe.directory", "*"},
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.Root,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_PROJECT_ROOT=" + s.Root,
		"GIT_HTTP_EXPORT_ALL=1",
		"REMOTE_USER=controlplane",
		fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)),
	}
	for i, kv := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	return env
}

// ServeHTTP answers git clients. The first push to a name creates it; a fetch
// of an unknown one is refused.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		fmt.Fprintln(w, "ok")
		return
	}
	match := service.FindStringSubmatch(r.URL.Path)
	if match == nil || !ValidName(match[1]) {
		http.NotFound(w, r)
		return
	}
	if match[2] == "git-receive-pack" || r.URL.Query().Get("service") == "git-receive-pack" {
		if _, err := s.Create(match[1]); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	cleanup, err := unchunk(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer cleanup()
	backend := cgi.Handler{
		Path:   s.git,
		Args:   []string{"http-backend"},
		Root:   "/",
		Dir:    s.Root,
		Env:    s.env(),
		Stderr: s.Log,
	}
	backend.ServeHTTP(w, r)
}

// unchunk stores a chunked body in a file: git sends packs above 1 MiB
// chunked, and CGI wants to know the length beforehand.
func unchunk(r *http.Request) (cleanup func(), _ error) {
	if len(r.TransferEncoding) == 0 {
		return func() {}, nil
	}
	f, err := os.CreateTemp("", "git-push-")
	if err != nil {
		return nil, err
	}
	// The file needs no name any more; it goes with the descriptor.
	err = os.Remove(f.Name())
	n, copyErr := io.Copy(f, r.Body)
	_, seekErr := f.Seek(0, io.SeekStart)
	if err := errors.Join(err, copyErr, seekErr); err != nil {
		f.Close()
		return nil, fmt.Errorf("read the pack: %w", err)
	}
	r.Body, r.ContentLength, r.TransferEncoding = f, n, nil
	return func() { f.Close() }, nil
}
