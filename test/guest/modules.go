package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// moduleTree is the modules of one kernel.
type moduleTree struct {
	// files has the path of each module by name.
	files map[string]string
	// builtin are those that are part of the kernel itself.
	builtin map[string]bool
	// needs tells which modules have to be loaded before one. It is given its file.
	needs func(file string) ([]string, error)
}

// readModules reads lib/modules/VERSION of a kernel's package.
func readModules(dir string) (moduleTree, error) {
	t := moduleTree{files: map[string]string{}, builtin: map[string]bool{}, needs: depends}
	raw, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return t, err
	}
	for line := range strings.Lines(string(raw)) {
		t.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	return t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			t.files[moduleName(path)] = path
		}
		return err
	})
}

// order returns the files of the wanted modules and of those that they need, each after
// all that it needs.
func (t moduleTree) order(wanted ...string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || t.builtin[name] {
			return nil
		}
		seen[name] = true
		file, ok := t.files[name]
		if !ok {
			return fmt.Errorf("the kernel has no module %s", name)
		}
		needs, err := t.needs(file)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, other := range needs {
			if err := add(other); err != nil {
				return fmt.Errorf("needed by %s: %w", name, err)
			}
		}
		files = append(files, file)
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// moduleName is what a module goes by, given its name or file: a hyphen is as good as an
// underscore.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// depends reads from a module's file what it needs.
func depends(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s has no section .modinfo", file)
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	return parseDepends(data), nil
}

func parseDepends(modinfo []byte) []string {
	for entry := range bytes.SplitSeq(modinfo, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ",")
		}
	}
	return nil
}
