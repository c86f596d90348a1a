// Package ociregistry is an OCI registry that survives a restart.
package ociregistry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

// New returns a registry that keeps its content in dir. The library keeps
// blobs on disk but manifests in memory, so each accepted manifest is also
// written to a file, and put again at start.
func New(dir string, logger io.Writer) (http.Handler, error) {
	blobs, manifests := filepath.Join(dir, "blobs"), filepath.Join(dir, "manifests")
	for _, d := range []string{blobs, manifests} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	inner := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
		registry.Logger(log.New(logger, "", log.LstdFlags)),
	)
	if err := replay(inner, manifests); err != nil {
		return nil, fmt.Errorf("load the manifests of %s: %w", dir, err)
	}
	return &persistent{inner: inner, dir: manifests}, nil
}

type persistent struct {
	inner http.Handler
	dir   string
}

// stored is a manifest as it was put.
type stored struct {
	Path        string `json:"path"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

var manifestPath = regexp.MustCompile(`^/v2/.+/manifests/[^/]+$`)

// maxManifest is the limit that registries commonly have.
const maxManifest = 4 << 20

func (p *persistent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !manifestPath.MatchString(r.URL.Path) || (r.Method != http.MethodPut && r.Method != http.MethodDelete) {
		p.inner.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// The answer is held back until the manifest is on disk.
	answer := httptest.NewRecorder()
	p.inner.ServeHTTP(answer, r)
	if answer.Code < 300 {
		if err := p.keep(r, body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (p *persistent) keep(r *http.Request, body []byte) error {
	file := filepath.Join(p.dir, strings.ReplaceAll(strings.TrimPrefix(r.URL.Path, "/v2/"), "/", "%2F")+".json")
	if r.Method == http.MethodDelete {
		err := os.Remove(file)
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	raw, err := json.Marshal(stored{Path: r.URL.Path, ContentType: r.Header.Get("Content-Type"), Body: body})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".tmp", raw, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

// replay puts every stored manifest. An index is refused while its children
// are missing, so what is refused is tried again as long as others succeed.
func replay(h http.Handler, dir string) error {
	pending, err := load(dir)
	for err == nil && len(pending) > 0 {
		var refused []stored
		var last string
		for _, m := range pending {
			r := httptest.NewRequest(http.MethodPut, m.Path, bytes.NewReader(m.Body))
			r.Header.Set("Content-Type", m.ContentType)
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			if answer.Code >= 300 {
				refused = append(refused, m)
				last = fmt.Sprintf("%s: %d %s", m.Path, answer.Code, answer.Body)
			}
		}
		if len(refused) == len(pending) {
			return fmt.Errorf("put %s", last)
		}
		pending = refused
	}
	return err
}

func load(dir string) ([]stored, error) {
	var all []stored
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var m stored
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, m)
		return nil
	})
	return all, err
}
