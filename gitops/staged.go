package gitops

import (
	"fmt"
	"os"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/format/index"
)

// OpenStaged takes the files of the repository that dir lies in as they are in Git's
// index: what the next commit will have. indexFile is another index than the
// repository's own, as Git names it to a hook in GIT_INDEX_FILE when a commit is of
// some paths only; it may be empty.
func OpenStaged(dir, indexFile string) (*Tree, error) {
	repo, within, err := repositoryOf(dir)
	if err != nil {
		return nil, err
	}
	staged, err := readIndex(repo, indexFile)
	if err != nil {
		return nil, fmt.Errorf("read the index of the repository of %s: %w", dir, err)
	}
	t := newTree("index")
	for _, entry := range staged.Entries {
		// Only what is in conflict has a stage. (go-git calls the first one Merged.)
		if entry.Stage != 0 {
			return nil, fmt.Errorf("%s is in conflict: resolve it and git add it", entry.Name)
		}
		if entry.IntentToAdd {
			continue
		}
		t.addParents(entry.Name)
		t.addEntry(repo, entry.Name, entry.Mode, entry.Hash)
	}
	t.leaveOutSubmodules()
	return t.enter(within)
}

func readIndex(repo *git.Repository, file string) (*index.Index, error) {
	if file == "" {
		return repo.Storer.Index()
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &index.Index{}
	return out, index.NewDecoder(f).Decode(out)
}
