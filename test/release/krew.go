package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// manifest is what krew reads of a plugin.
// https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	URI      string                `json:"uri"`
	SHA256   string                `json:"sha256"`
	Selector *metav1.LabelSelector `json:"selector"`
	// Files are what of the archive is installed, and where; none is all of it.
	Files []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"files"`
	Bin string `json:"bin"`
}

var (
	sha256Form = regexp.MustCompile(`^[a-f0-9]{64}$`)
	nameForm   = regexp.MustCompile(`^[\w-]+$`)
	// supported are the systems and processors that krew's own check knows, and arm64.
	supported = []labels.Set{
		{"os": "linux", "arch": "386"}, {"os": "linux", "arch": "amd64"}, {"os": "linux", "arch": "arm"}, {"os": "linux", "arch": "arm64"},
		{"os": "darwin", "arch": "386"}, {"os": "darwin", "arch": "amd64"}, {"os": "darwin", "arch": "arm64"},
		{"os": "windows", "arch": "386"}, {"os": "windows", "arch": "amd64"}, {"os": "windows", "arch": "arm64"},
	}
)

// manifestPath is where goreleaser writes it.
func manifestPath(dist string) string { return filepath.Join(dist, "krew", "fleet.yaml") }

func readManifest(dist string) (manifest, error) {
	var m manifest
	text, err := os.ReadFile(manifestPath(dist))
	if err != nil {
		return m, err
	}
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", manifestPath(dist), err)
	}
	return m, nil
}

// problems are those for which krew refuses a manifest in a file with this name, or a
// reviewer of its index would, and those that would let an installation from the release
// fail.
func (m manifest) problems(file string, r release) []string {
	var found []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			found = append(found, "krew's manifest: "+fmt.Sprintf(format, args...))
		}
	}
	s := m.Spec
	must(m.APIVersion == "krew.googlecontainertools.github.com/v1alpha2" && m.Kind == "Plugin", "it is a %s of %s, and no Plugin that krew knows", m.Kind, m.APIVersion)
	must(m.Metadata.Name == file && nameForm.MatchString(file), "the plugin is named %q in %s.yaml", m.Metadata.Name, file)
	must(semver.IsValid(s.Version) && semver.Canonical(s.Version) == s.Version, "version %q is not of the form vX.Y.Z", s.Version)
	must(s.Version == r.tag, "version %s is not the release's, %s", s.Version, r.tag)
	must(strings.HasPrefix(s.Homepage, "https://"), "homepage %q is no URL", s.Homepage)
	must(s.ShortDescription != "" && len(s.ShortDescription) <= 50 && !strings.ContainsAny(s.ShortDescription, "\r\n"),
		"shortDescription %q is not one line of at most 50 characters", s.ShortDescription)
	must(s.Description != "", "description is missing")
	for line := range strings.Lines(s.Description + "\n" + s.Caveats) {
		must(len(strings.TrimRight(line, "\n")) <= 80, "a line of description or caveats is longer than 80 characters: %s", line)
	}
	must(len(s.Platforms) > 0, "it has no platforms")
	taken := map[string]int{}
	for i, p := range s.Platforms {
		for _, problem := range p.problems(r) {
			must(false, "platforms[%d]: %s", i, problem)
		}
		for _, on := range p.matches() {
			first, again := taken[on.String()]
			must(!again, "platforms[%d] and platforms[%d] both select %s", first, i, on)
			taken[on.String()] = i
		}
	}
	return found
}

// matches are the supported platforms that the selector selects.
func (p platform) matches() []labels.Set {
	selector, err := metav1.LabelSelectorAsSelector(p.Selector)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(supported), func(on labels.Set) bool { return !selector.Matches(on) })
}

func (p platform) problems(r release) []string {
	var found []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	on := p.matches()
	must(p.Selector != nil && len(on) > 0, "selector selects no platform")
	if p.Selector != nil {
		for key := range p.Selector.MatchLabels {
			must(key == "os" || key == "arch", "selector has %q, and krew knows os and arch", key)
		}
		for _, e := range p.Selector.MatchExpressions {
			must(e.Key == "os" || e.Key == "arch", "selector has %q, and krew knows os and arch", e.Key)
		}
	}
	must(sha256Form.MatchString(p.SHA256), "sha256 %q is not 64 hexadecimal digits in lower case", p.SHA256)
	base, archive := path.Split(p.URI)
	must(base == "https://github.com/nationtech/fleet/releases/download/"+r.tag+"/", "uri %s is not of release %s", p.URI, r.tag)
	sum, published := r.sums[archive]
	must(published, "uri is of %s, which is not published", archive)
	if !published {
		return found
	}
	must(sum == p.SHA256, "sha256 is not that of %s, %s", archive, sum)
	inside, err := members(filepath.Join(r.dist, archive))
	if err != nil {
		return append(found, err.Error())
	}
	installed := map[string]bool{}
	for name := range inside {
		installed[name] = p.Files == nil
	}
	must(p.Files == nil || len(p.Files) > 0, "files is there and empty")
	for _, f := range p.Files {
		must(f.From != "" && f.To == ".", "files has from %q to %q; a file goes to .", f.From, f.To)
		_, there := inside[f.From]
		must(there, "files has %s, which is not in %s", f.From, archive)
		installed[f.From] = there
	}
	must(installed["LICENSE"], "LICENSE is not installed")
	must(p.Bin != "" && installed[p.Bin], "bin %q is not installed", p.Bin)
	for _, set := range on {
		want := "kubectl-fleet"
		if set["os"] == "windows" {
			want += ".exe"
		} else {
			must(inside[p.Bin]&0o111 != 0, "bin %q may not be executed", p.Bin)
		}
		must(p.Bin == want, "bin is %q on %s, want %s", p.Bin, set["os"], want)
	}
	return found
}
