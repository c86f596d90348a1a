package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
)

// checkout brings a Draft into the working tree and the index: into the files that
// it changes, and only when these are as they were committed.
type checkout struct {
	draft *Draft
	root  *os.Root
	index *index.Index
	// indexBefore is the index as it was; nil when there was none.
	indexBefore []byte
	// crlf tells that Git writes lines here as Windows does.
	crlf bool
	// before are the files as they were; nil for one that was not there.
	before  map[string][]byte
	touched []string
	// locked tells that the lock on the index is ours.
	locked bool
}

const indexFile, indexLock = "index", "index.lock"

// checkout locks the index and makes sure that all can be written. Nothing is
// changed yet.
func (d *Draft) checkout() (_ *checkout, err error) {
	b := d.branch
	for _, state := range []string{"MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"} {
		if _, err := b.store.Filesystem().Stat(state); err == nil {
			return nil, fmt.Errorf("branch %s is in the middle of a merge, cherry-pick or revert (there is %s): finish it first, or name another branch with --branch", b.Name, state)
		}
	}
	c := &checkout{draft: d, before: map[string][]byte{}, crlf: strings.EqualFold(b.settings.get("core.autocrlf"), "true")}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.root, err = os.OpenRoot(b.root); err != nil {
		return nil, fmt.Errorf("open the working tree: %w", err)
	}
	if c.index, err = b.store.Index(); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if file, err := b.store.Filesystem().Open(indexFile); err == nil {
		if c.indexBefore, err = io.ReadAll(file); err != nil {
			return nil, errors.Join(fmt.Errorf("read the index: %w", err), file.Close())
		}
		_ = file.Close() // it was only read
	}
	// What can't be written again is found before anything is.
	if err := index.NewEncoder(io.Discard).Encode(c.index); err != nil {
		return nil, fmt.Errorf("the index has what can't be written here (%w): name a branch that is not checked out with --branch", err)
	}
	return c, c.clean()
}

// lock keeps git from writing the index, as git's own commands do it.
func (c *checkout) lock() error {
	file, err := c.draft.branch.store.Filesystem().OpenFile(indexLock, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("another git command is at work in the repository (there is .git/index.lock): try again when it has ended")
	}
	if err != nil {
		return fmt.Errorf("lock the index: %w", err)
	}
	c.locked = true
	return file.Close()
}

func (c *checkout) close() {
	if c.root != nil {
		_ = c.root.Close() // nothing is open in it
	}
	if c.locked { // after write one that is there is somebody else's
		_ = c.draft.branch.store.Filesystem().Remove(indexLock)
	}
}

// clean names the files that differ from the commit that is built upon.
func (c *checkout) clean() error {
	var dirty []string
	for _, name := range c.draft.Files() {
		ok, err := c.isClean(name)
		if err != nil {
			return err
		}
		if !ok {
			dirty = append(dirty, name)
		}
	}
	if len(dirty) == 0 {
		return nil
	}
	return fmt.Errorf("branch %s is checked out, and the commit would change files that have changes of their own: %s; commit or stash these, or name another branch with --branch",
		c.draft.branch.Name, strings.Join(dirty, ", "))
}

func (c *checkout) isClean(name string) (bool, error) {
	change := c.draft.blobs[name]
	indexed := plumbing.ZeroHash
	for _, entry := range c.index.Entries {
		if entry.Name != name {
			continue
		}
		if entry.Stage != 0 || entry.SkipWorktree || entry.IntentToAdd || entry.Mode != change.mode {
			return false, nil
		}
		indexed = entry.Hash
	}
	if indexed != change.before {
		return false, nil
	}
	for folder := path.Dir(name); folder != "."; folder = path.Dir(folder) {
		// Not through a link, which would have it written elsewhere.
		info, err := c.root.Lstat(filepath.FromSlash(folder))
		if err == nil && !info.IsDir() {
			return false, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look at %s: %w", folder, err)
		}
	}
	info, err := c.root.Lstat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return change.before.IsZero(), nil
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", name, err)
	case change.before.IsZero() || !info.Mode().IsRegular():
		return false, nil
	}
	have, err := c.root.ReadFile(filepath.FromSlash(name))
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	blob, err := c.draft.branch.repo.BlobObject(change.before)
	if err != nil {
		return false, fmt.Errorf("read %s as it was committed: %w", name, err)
	}
	committed, err := readBounded(blob.Reader())
	if err != nil {
		return false, fmt.Errorf("read %s as it was committed: %w", name, err)
	}
	c.before[name] = have
	return bytes.Equal(have, committed) || bytes.Equal(have, c.onDisk(committed)), nil
}

// onDisk is content as Git writes it into the working tree.
func (c *checkout) onDisk(data []byte) []byte {
	if !c.crlf || bytes.Contains(data, []byte("\r\n")) || bytes.IndexByte(data, 0) >= 0 {
		return data
	}
	return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
}

// write changes the files and then the index, or puts back what it has changed.
func (c *checkout) write() error {
	for _, name := range c.draft.Files() {
		c.touched = append(c.touched, name)
		if err := c.writeFile(name, c.draft.files[name]); err != nil {
			return errors.Join(err, c.putBack())
		}
		if err := c.note(name); err != nil {
			return errors.Join(err, c.putBack())
		}
	}
	var encoded bytes.Buffer
	if err := index.NewEncoder(&encoded).Encode(c.index); err != nil {
		return errors.Join(fmt.Errorf("encode the index: %w", err), c.putBack())
	}
	if err := c.replaceIndex(encoded.Bytes()); err != nil {
		return errors.Join(err, c.putBack())
	}
	return nil
}

func (c *checkout) writeFile(name string, data []byte) error {
	place := filepath.FromSlash(name)
	if data == nil {
		if err := c.root.Remove(place); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	}
	if err := c.root.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", name, err)
	}
	mode := fs.FileMode(0o644)
	if info, err := c.root.Lstat(place); err == nil {
		mode = info.Mode().Perm()
	}
	// Renamed, so that the file never is half written.
	beside := place + ".fleet-new"
	err := c.root.WriteFile(beside, c.onDisk(data), mode)
	if err == nil {
		err = c.root.Rename(beside, place)
	}
	if err != nil {
		_ = c.root.Remove(beside) // it may not have been made
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// note has the index know a file as it now is.
func (c *checkout) note(name string) error {
	change := c.draft.blobs[name]
	if change.after.IsZero() {
		_, err := c.index.Remove(name)
		return err
	}
	info, err := c.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	entry, err := c.index.Entry(name)
	if errors.Is(err, index.ErrEntryNotFound) {
		entry, err = c.index.Add(name), nil
	}
	if err != nil {
		return err
	}
	entry.Hash, entry.Mode = change.after, change.mode
	entry.ModifiedAt, entry.Size = info.ModTime(), uint32(info.Size()) // modulo 2³², as git has it
	return nil
}

// replaceIndex writes into the lock and renames it, as git does.
func (c *checkout) replaceIndex(data []byte) error {
	if !c.locked {
		if err := c.lock(); err != nil {
			return err
		}
	}
	files := c.draft.branch.store.Filesystem()
	file, err := files.OpenFile(indexLock, os.O_WRONLY|os.O_TRUNC, 0o666)
	if err == nil {
		_, err = file.Write(data)
		err = errors.Join(err, file.Close())
	}
	if err == nil {
		err = files.Rename(indexLock, indexFile)
	}
	if err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	c.locked = false
	return nil
}

// undo takes back what write has done.
func (c *checkout) undo() error {
	err := c.putBack()
	if c.indexBefore == nil {
		return errors.Join(err, c.draft.branch.store.Filesystem().Remove(indexFile))
	}
	return errors.Join(err, c.replaceIndex(c.indexBefore))
}

func (c *checkout) putBack() error {
	var errs []error
	for _, name := range c.touched {
		place := filepath.FromSlash(name)
		if before, existed := c.before[name]; existed {
			mode := fs.FileMode(0o644)
			if c.draft.blobs[name].mode == filemode.Executable {
				mode = 0o755
			}
			errs = append(errs, c.root.WriteFile(place, before, mode))
		} else if err := c.root.Remove(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("put the files back as they were: %w", err)
	}
	return nil
}
