package cloudimage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cache keeps images that were downloaded.
type Cache struct {
	// Dir is where they are.
	Dir string
	// Client does the requests; nil is one that gives up when nothing comes any more.
	Client *http.Client
	// Meter shows how a download goes on; nil shows nothing.
	Meter Meter
	// Tell says what a person should know. It may be nil.
	Tell func(format string, args ...any)
}

// maxSums is more than any file of checksums has.
const maxSums = 4 << 20

// Get has an image on this machine, whole: its checksum is right and its tables end where
// the file does.
func (c *Cache) Get(ctx context.Context, i Image) (Disk, error) {
	if i.Path != "" {
		return c.local(i)
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return Disk{}, fmt.Errorf("keep image %s: %w", i.Name, err)
	}
	sum, err := c.sum(ctx, i)
	if err != nil {
		return Disk{}, fmt.Errorf("image %s: %w", i.Name, err)
	}
	// The sum is in the name, so that the image of today does not pass for the one of
	// yesterday, which machines may be made of.
	target := filepath.Join(c.Dir, sum.Hex[:16]+"-"+base(i))
	// Two that want the same image wait for each other, and the second has it at once.
	unlock, err := lock(ctx, target+".lock")
	if err != nil {
		return Disk{}, fmt.Errorf("image %s: %w", i.Name, err)
	}
	defer unlock()
	d, err := verified(target, sum)
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, fs.ErrNotExist):
	default:
		c.tell("%v; it is downloaded again", err)
	}
	if err := c.download(ctx, i, target, sum); err != nil {
		return Disk{}, fmt.Errorf("image %s: %w", i.Name, err)
	}
	return verified(target, sum)
}

// local is an image that is a file of this machine already.
func (c *Cache) local(i Image) (Disk, error) {
	d, err := Inspect(i.Path)
	if err != nil {
		return Disk{}, err
	}
	if d.Sum, err = sumOf(cmp.Or(i.Sum.Algorithm, "sha256"), i.Path); err != nil {
		return Disk{}, fmt.Errorf("image %s: %w", i.Path, err)
	}
	if !i.Sum.Zero() && d.Sum != i.Sum {
		return Disk{}, &SumError{File: i.Path, Got: d.Sum, Want: i.Sum}
	}
	return d, nil
}

// verified is an image that is there, if its checksum is right. One whose sum is wrong is
// removed.
func verified(path string, sum Sum) (Disk, error) {
	got, err := sumOf(sum.Algorithm, path)
	if err != nil {
		return Disk{}, err
	}
	if got != sum {
		return Disk{}, &SumError{File: path, Got: got, Want: sum, Removed: os.Remove(path) == nil}
	}
	d, err := Inspect(path)
	d.Sum = sum
	return d, err
}

// SumError tells that an image is not what it should be.
type SumError struct {
	File      string
	Got, Want Sum
	// Removed reports whether the file was removed, so that the next try begins anew.
	Removed bool
}

// Error says both sums.
func (e *SumError) Error() string {
	text := fmt.Sprintf("image %s has the checksum %s, and should have %s", e.File, e.Got, e.Want)
	if e.Removed {
		return text + ": it was removed; try again, and when it stays so, whoever offers it has another image than you think"
	}
	return text
}

// sum is the checksum that an image has to have. Of one that has a file of sums beside it,
// the last that was read is taken where that can't be reached and the image is there.
func (c *Cache) sum(ctx context.Context, i Image) (Sum, error) {
	if !i.Sum.Zero() {
		return i.Sum, nil
	}
	kept := filepath.Join(c.Dir, base(i)+".sum")
	text, err := c.read(ctx, i.SumsURL)
	if err == nil {
		sum, err := sumIn(text, base(i))
		if err != nil {
			return Sum{}, fmt.Errorf("checksums %s: %w", i.SumsURL, err)
		}
		return sum, os.WriteFile(kept, []byte(sum.Hex+"  "+base(i)+"\n"), 0o600)
	}
	last, readErr := os.ReadFile(kept)
	if readErr != nil || ctx.Err() != nil {
		return Sum{}, fmt.Errorf("read checksums: %w", err)
	}
	sum, sumErr := sumIn(string(last), base(i))
	if _, statErr := os.Stat(filepath.Join(c.Dir, shortOf(sum)+"-"+base(i))); sumErr != nil || statErr != nil {
		return Sum{}, fmt.Errorf("read checksums: %w", err)
	}
	c.tell("%s can't be reached (%v): the image that is here already is taken, as it was", i.SumsURL, err)
	return sum, nil
}

func shortOf(s Sum) string { return s.Hex[:min(16, len(s.Hex))] }

// sumsPatience is how long a small file may take.
const sumsPatience = 30 * time.Second

func (c *Cache) read(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sumsPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := c.client().Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", url, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxSums))
	return string(data), err
}

func (c *Cache) client() *http.Client {
	if c.Client != nil {
		return c.Client
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = sumsPatience
	return &http.Client{Transport: transport}
}

func (c *Cache) tell(format string, args ...any) {
	if c.Tell != nil {
		c.Tell(format, args...)
	}
}

// base is the file's name of a URL.
func base(i Image) string {
	name := i.URL[strings.LastIndexByte(i.URL, '/')+1:]
	name, _, _ = strings.Cut(name, "?")
	return cmp.Or(name, "image")
}

// lockEvery is how often a lock that somebody else has is tried again: the kernel has no
// way to wait for one that a context could end.
const lockEvery = 200 * time.Millisecond

// lock takes a lock that ends with this process at the latest.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("another fleet downloads it: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
