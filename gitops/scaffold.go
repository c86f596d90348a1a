package gitops

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// scaffold is what a new fleet repository begins with. Files that end in .tmpl
// are templates; clusters and overlays are written once for each.
//
//go:embed scaffold
var scaffold embed.FS

// componentFolder holds what kustomize has to know about the fleet's kinds.
const componentFolder = "components/fleet"

// Names of the overlays that a new repository has.
const (
	LabOverlay   = "lab"
	FieldOverlay = "field"
)

// scaffoldOverlay is one overlay of a new repository.
type scaffoldOverlay struct {
	Name, Title, Namespace, Greeting string
	Devices                          []ScaffoldDevice
}

// scaffoldData is what the templates see.
type scaffoldData struct {
	Name, URL, Branch string
	Image             imageReference
	Lab, Field        scaffoldOverlay
	// Overlay is the one that the file is for, if it is for one.
	Overlay scaffoldOverlay
}

// Scaffold writes a new fleet repository into dir, which must be empty but for
// Git's own folder or not exist, and returns the paths of the files, relative to
// dir and in order. Nothing is written when an option is wrong.
func Scaffold(dir string, options ScaffoldOptions) ([]string, error) {
	data, err := options.data()
	if err != nil {
		return nil, err
	}
	if err := refuseNonEmpty(dir); err != nil {
		return nil, err
	}
	files, err := scaffoldFiles(data)
	if err != nil {
		return nil, err
	}
	return writeFiles(dir, files)
}

// UpdateComponent writes components/fleet of the repository in dir anew, as this
// version has it, and returns the paths of the files, relative to dir.
func UpdateComponent(dir string) ([]string, error) {
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(componentFolder)))
	if err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s has no folder %s: it was not made by kubectl fleet repo init", dir, componentFolder)
	}
	files := map[string][]byte{}
	if err := addComponent(files); err != nil {
		return nil, err
	}
	return writeFiles(dir, files)
}

func refuseNonEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, entry := range entries {
		if entry.Name() != ".git" {
			return fmt.Errorf("%s is not empty (it has %s): give a new or empty directory; nothing was written", dir, entry.Name())
		}
	}
	return nil
}

func scaffoldFiles(data scaffoldData) (map[string][]byte, error) {
	files := map[string][]byte{}
	if err := addComponent(files); err != nil {
		return nil, err
	}
	cluster := path.Join(clustersFolder, data.Name)
	for source, target := range map[string]string{
		"gitignore":                       ".gitignore",
		"README.md.tmpl":                  "README.md",
		"githooks/pre-commit":             ".githooks/pre-commit",
		"hooks/post-receive.tmpl":         "hooks/post-receive",
		"workflows/fleet.yaml.tmpl":       ".github/workflows/fleet.yaml",
		"base/kustomization.yaml.tmpl":    "base/kustomization.yaml",
		"base/hello.yaml.tmpl":            "base/hello.yaml",
		"base/signage.yaml.tmpl":          "base/signage.yaml",
		"cluster/kustomization.yaml.tmpl": path.Join(cluster, "kustomization.yaml"),
		"cluster/receiver.yaml.tmpl":      path.Join(cluster, "receiver.yaml"),
	} {
		if err := addFile(files, source, target, data); err != nil {
			return nil, err
		}
	}
	for _, overlay := range []scaffoldOverlay{data.Lab, data.Field} {
		data.Overlay = overlay
		folder := path.Join(overlaysFolder, overlay.Name)
		for source, target := range map[string]string{
			"overlay/kustomization.yaml.tmpl": path.Join(folder, "kustomization.yaml"),
			"overlay/devices.yaml.tmpl":       path.Join(folder, "devices.yaml"),
			"cluster/overlay.yaml.tmpl":       path.Join(cluster, overlay.Name+".yaml"),
		} {
			if err := addFile(files, source, target, data); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

func addComponent(files map[string][]byte) error {
	for _, name := range []string{"kustomization.yaml", "openapi.json", "names.yaml", "tidy.yaml"} {
		file := path.Join(componentFolder, name)
		if err := addFile(files, file, file, scaffoldData{}); err != nil {
			return err
		}
	}
	return nil
}

func addFile(files map[string][]byte, source, target string, data scaffoldData) error {
	text, err := scaffold.ReadFile(path.Join("scaffold", source))
	if err != nil {
		return fmt.Errorf("read embedded %s: %w", source, err)
	}
	if strings.HasSuffix(source, ".tmpl") {
		if text, err = fill(source, text, data); err != nil {
			return err
		}
	}
	files[target] = text
	return nil
}

func fill(name string, text []byte, data scaffoldData) ([]byte, error) {
	// Not {{ }}: YAML and documentation have those.
	parsed, err := template.New(name).Delims("[[", "]]").Funcs(template.FuncMap{"yaml": scalar, "shell": quote}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("parse embedded %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// scalar writes a string so that YAML reads it as a string: a tag 1.10 or a
// device called 007 would be numbers.
func scalar(value string) (string, error) {
	out, err := yaml.Marshal(value)
	return strings.TrimSpace(string(out)), err
}

// quote writes a string so that a shell takes it for one word.
func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'" }

// mode is what a file of the repository may: a script is run by its name.
func mode(content []byte) fs.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

func writeFiles(dir string, files map[string][]byte) ([]string, error) {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of %s: %w", name, err)
		}
		if err := os.WriteFile(file, files[name], mode(files[name])); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return names, nil
}
