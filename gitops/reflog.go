package gitops

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// noteMove notes where the branch was, as git does, so that main@{1} and git reflog
// know of it. The commit is made: that a note can't be written does not undo it.
func (b *Branch) noteMove(to plumbing.Hash, commit *object.Commit) {
	if setting := b.settings.get("core.logallrefupdates"); setting != "" && !strings.EqualFold(setting, "always") && !b.settings.is("core.logallrefupdates") {
		return
	}
	line := fmt.Sprintf("%s %s %s <%s> %d %s\tcommit: %s\n", b.tip, to, commit.Committer.Name, commit.Committer.Email,
		commit.Committer.When.Unix(), commit.Committer.When.Format("-0700"), firstLine(commit.Message))
	names := []string{b.reference().String()}
	if b.checkedOut {
		names = append(names, plumbing.HEAD.String())
	}
	files := b.store.Filesystem()
	for _, name := range names {
		name = path.Join("logs", name)
		if files.MkdirAll(path.Dir(name), 0o777) != nil {
			continue
		}
		if file, err := files.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666); err == nil {
			_, _ = file.Write([]byte(line))
			_ = file.Close()
		}
	}
}
