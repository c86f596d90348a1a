package main

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pack writes a tar archive of empty files and is its checksum.
func pack(t *testing.T, path string, files map[string]int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	zipped := gzip.NewWriter(f)
	w := tar.NewWriter(zipped)
	for name, mode := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []interface{ Close() error }{w, zipped, f} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := sumOf(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func selector(os, arch string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"os": os, "arch": arch}}
}

// good is a manifest that nothing is wrong with, and its release.
func good(t *testing.T) (manifest, release) {
	t.Helper()
	const url = "https://github.com/nationtech/fleet/releases/download/v1.2.3/"
	r := release{dist: t.TempDir(), tag: "v1.2.3", sums: map[string]string{}}
	for name, files := range map[string]map[string]int64{
		"linux.tar.gz":        {"kubectl-fleet": 0o755, "LICENSE": 0o644},
		"windows.tar.gz":      {"kubectl-fleet.exe": 0o644, "LICENSE": 0o644},
		"unlicensed.tar.gz":   {"kubectl-fleet": 0o755},
		"unexecutable.tar.gz": {"kubectl-fleet": 0o644, "LICENSE": 0o644},
		"leaving.tar.gz":      {"kubectl-fleet": 0o755, "LICENSE": 0o644, "../evil": 0o644},
	} {
		r.sums[name] = pack(t, filepath.Join(r.dist, name), files)
	}
	var m manifest
	m.APIVersion, m.Kind, m.Metadata.Name = "krew.googlecontainertools.github.com/v1alpha2", "Plugin", "fleet"
	m.Spec.Version, m.Spec.Homepage = "v1.2.3", "https://github.com/nationtech/fleet"
	m.Spec.ShortDescription, m.Spec.Description = "Follow a fleet", "Follow a fleet.\n"
	m.Spec.Platforms = []platform{
		{URI: url + "linux.tar.gz", SHA256: r.sums["linux.tar.gz"], Selector: selector("linux", "amd64"), Bin: "kubectl-fleet"},
		{URI: url + "windows.tar.gz", SHA256: r.sums["windows.tar.gz"], Selector: selector("windows", "amd64"), Bin: "kubectl-fleet.exe"},
	}
	return m, r
}

func TestAManifestThatKrewTakes(t *testing.T) {
	m, r := good(t)
	if found := m.problems("fleet", r); len(found) > 0 {
		t.Errorf("a good manifest has the problems %q", found)
	}
}

func TestAManifestThatKrewRefuses(t *testing.T) {
	// archive puts another archive in the place of the first platform's.
	archive := func(name string) func(*manifest, *release) {
		return func(m *manifest, r *release) {
			p := &m.Spec.Platforms[0]
			p.URI, p.SHA256 = strings.ReplaceAll(p.URI, "linux.tar.gz", name), r.sums[name]
		}
	}
	for name, tt := range map[string]struct {
		change func(*manifest, *release)
		want   string
	}{
		"another kind":         {func(m *manifest, _ *release) { m.Kind = "Fleet" }, "no Plugin that krew knows"},
		"another name":         {func(m *manifest, _ *release) { m.Metadata.Name = "fleets" }, `named "fleets" in fleet.yaml`},
		"a version without v":  {func(m *manifest, _ *release) { m.Spec.Version = "1.2.3" }, "vX.Y.Z"},
		"a short version":      {func(m *manifest, _ *release) { m.Spec.Version = "v1.2" }, "vX.Y.Z"},
		"another version":      {func(m *manifest, _ *release) { m.Spec.Version = "v1.2.4" }, "not the release's"},
		"no homepage":          {func(m *manifest, _ *release) { m.Spec.Homepage = "" }, "homepage"},
		"no short description": {func(m *manifest, _ *release) { m.Spec.ShortDescription = "" }, "shortDescription"},
		"two lines":            {func(m *manifest, _ *release) { m.Spec.ShortDescription = "a\nb" }, "shortDescription"},
		"a long one":           {func(m *manifest, _ *release) { m.Spec.ShortDescription = strings.Repeat("x", 51) }, "at most 50"},
		"no description":       {func(m *manifest, _ *release) { m.Spec.Description = "" }, "description is missing"},
		"long lines":           {func(m *manifest, _ *release) { m.Spec.Caveats = strings.Repeat("x ", 41) }, "or caveats is longer than 80"},
		"no platforms":         {func(m *manifest, _ *release) { m.Spec.Platforms = nil }, "no platforms"},
		"an upper-case sum": {func(m *manifest, _ *release) {
			m.Spec.Platforms[0].SHA256 = strings.ToUpper(m.Spec.Platforms[0].SHA256)
		}, "in lower case"},
		"the sum of something else": {func(m *manifest, _ *release) { m.Spec.Platforms[0].SHA256 = m.Spec.Platforms[1].SHA256 }, "is not that of linux.tar.gz"},
		"selectors that overlap":    {func(m *manifest, _ *release) { m.Spec.Platforms[1].Selector = selector("linux", "amd64") }, "platforms[0] and platforms[1] both select arch=amd64,os=linux"},
		"a selector of a system alone": {func(m *manifest, _ *release) {
			m.Spec.Platforms[1].Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"os": "linux"}}
		}, "both select arch=amd64,os=linux"},
		"no selector":                    {func(m *manifest, _ *release) { m.Spec.Platforms[0].Selector = nil }, "selects no platform"},
		"a system that krew has not":     {func(m *manifest, _ *release) { m.Spec.Platforms[0].Selector = selector("plan9", "amd64") }, "selects no platform"},
		"a label that krew has not":      {func(m *manifest, _ *release) { m.Spec.Platforms[0].Selector.MatchLabels["libc"] = "musl" }, `has "libc"`},
		"an address of another release":  {func(_ *manifest, r *release) { r.tag = "v1.2.4" }, "is not of release v1.2.4"},
		"a file that is not published":   {func(_ *manifest, r *release) { delete(r.sums, "linux.tar.gz") }, "not published"},
		"no bin":                         {func(m *manifest, _ *release) { m.Spec.Platforms[0].Bin = "" }, `bin ""`},
		"a bin that is not there":        {func(m *manifest, _ *release) { m.Spec.Platforms[0].Bin = "fleet" }, `bin "fleet" is not installed`},
		"windows without .exe":           {func(m *manifest, _ *release) { m.Spec.Platforms[1].Bin = "kubectl-fleet" }, `want kubectl-fleet.exe`},
		"no licence":                     {archive("unlicensed.tar.gz"), "LICENSE is not installed"},
		"a program without its mode":     {archive("unexecutable.tar.gz"), "may not be executed"},
		"a file that leaves the archive": {archive("leaving.tar.gz"), "leads out of the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			m, r := good(t)
			tt.change(&m, &r)
			if found := strings.Join(m.problems("fleet", r), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("it says %q, want %q", found, tt.want)
			}
		})
	}
}

func TestChecksumsHaveWhatIsPublished(t *testing.T) {
	r := release{
		published: []string{"a", "b", "c"},
		sums:      map[string]string{"a": "1", "b": "2", "c": "3"},
		stated:    map[string]string{"a": "1", "b": "9", "d": "4"},
	}
	want := []string{"checksums.txt states 9 for b, which has 2", "c is not in checksums.txt", "checksums.txt has d, which is not published"}
	if got := r.problems(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}
