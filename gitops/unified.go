package gitops

import (
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/diff"
	linediff "github.com/go-git/go-git/v5/utils/diff"
	"github.com/sergi/go-diff/diffmatchpatch"
)

// unified is the difference of two texts as Git prints it, without the names of files.
func unified(before, after string) (string, error) {
	var p patch
	for _, d := range linediff.Do(before, after) {
		operation := diff.Equal
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			operation = diff.Delete
		case diffmatchpatch.DiffInsert:
			operation = diff.Add
		}
		p = append(p, chunk{d.Text, operation})
	}
	var out strings.Builder
	err := diff.NewUnifiedEncoder(&out, diff.DefaultContextLines).Encode(p)
	return out.String(), err
}

// patch is what Git's encoder wants: one file that has no name.
type patch []diff.Chunk

func (p patch) Message() string               { return "" }
func (p patch) FilePatches() []diff.FilePatch { return []diff.FilePatch{p} }
func (p patch) IsBinary() bool                { return false }
func (p patch) Files() (from, to diff.File)   { return nil, nil }
func (p patch) Chunks() []diff.Chunk          { return p }

type chunk struct {
	content   string
	operation diff.Operation
}

func (c chunk) Content() string      { return c.content }
func (c chunk) Type() diff.Operation { return c.operation }
