package ociregistry

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image describes a FROM scratch image of one static binary.
type Image struct {
	Binary string
	// Entrypoint defaults to the binary.
	Entrypoint []string
	Labels     map[string]string
	// Env is KEY=VALUE for the process.
	Env []string
}

// Build makes the image. The same input always gives the same digest: no
// times, no owners, one order.
func (i Image) Build() (v1.Image, error) {
	arch, err := staticArchitecture(i.Binary)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(i.Binary)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(i.Binary)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	header := &tar.Header{Name: base, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	entrypoint := i.Entrypoint
	if len(entrypoint) == 0 {
		entrypoint = []string{"/" + base}
	}
	config := &v1.ConfigFile{
		Architecture: arch,
		OS:           "linux",
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		Config:       v1.Config{Entrypoint: entrypoint, Env: i.Env, Labels: i.Labels, WorkingDir: "/"},
		RootFS:       v1.RootFS{Type: "layers"},
	}
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), config)
	if err != nil {
		return nil, err
	}
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	return mutate.Append(img, mutate.Addendum{Layer: l})
}

// Push builds the image, pushes it, and returns its digest.
func (i Image) Push(ctx context.Context, ref string) (digest string, _ error) {
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return "", err
	}
	img, err := i.Build()
	if err != nil {
		return "", err
	}
	// A transport of our own: a proxy of the environment is not for loopback.
	if err := remote.Write(parsed, img, remote.WithContext(ctx), remote.WithTransport(&http.Transport{})); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	d, err := img.Digest()
	return d.String(), err
}

// staticArchitecture reads the platform from the binary, and refuses one that
// would not start in an empty image.
func staticArchitecture(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s is no Linux program: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s is dynamically linked and cannot run FROM scratch: build it with CGO_ENABLED=0", path)
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("%s is for %s, which is neither amd64 nor arm64", path, f.Machine)
	}
}
