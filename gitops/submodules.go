package gitops

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/config"
)

// notDelivered is why what lies in another Git repository is left out.
const notDelivered = ": Flux does not deliver what is in it; copy what is needed into this repository"

// leaveOutSubmodules leaves the repository's submodules out of the tree, whether they
// are checked out or not, and says their names where something refers to them.
func (t *Tree) leaveOutSubmodules() {
	data, err := t.ReadFile(".gitmodules")
	if err != nil {
		return // it has none
	}
	modules := config.NewModules()
	if err := modules.Unmarshal(data); err != nil {
		return // git itself says what is wrong
	}
	for name, module := range modules.Submodules {
		dir := path.Clean(module.Path)
		if dir == "." || dir == "" {
			continue
		}
		t.absent[dir] = fmt.Sprintf("is the submodule %q%s", name, notDelivered)
		within := func(file string) bool { return file == dir || strings.HasPrefix(file, dir+"/") }
		maps.DeleteFunc(t.files, func(file string, _ func() ([]byte, error)) bool { return within(file) })
		maps.DeleteFunc(t.dirs, func(folder string, _ bool) bool { return within(folder) })
	}
}
