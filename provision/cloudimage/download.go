package cloudimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// attempts is how often in a row a download may break off without a byte more.
	attempts = 4
	// firstPause is how long to wait after the first of them; each further wait is twice as
	// long.
	firstPause = 500 * time.Millisecond
	// stalled is how long nothing may come until a connection counts as dead.
	stalled = time.Minute
)

// partial is a file that is not whole yet.
type partial struct{ path string }

// tag is the file with what the server calls this version of the image. A part of one
// version can't be completed with a part of another.
func (p partial) tag() string { return p.path + ".etag" }

func (p partial) size() int64 {
	info, err := os.Stat(p.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (p partial) remove() {
	_ = os.Remove(p.path)
	_ = os.Remove(p.tag())
}

// download has an image at target, with the right checksum. What a download that is broken
// off has brought stays for the next one.
func (c *Cache) download(ctx context.Context, i Image, target string, sum Sum) error {
	p := partial{target + ".partial"}
	pause := firstPause
	for fruitless := 0; ; {
		before := p.size()
		err := c.fetch(ctx, i, p)
		if err == nil {
			break
		}
		if p.size() > before {
			fruitless, pause = 0, firstPause
		}
		fruitless++
		if ctx.Err() != nil || fatal(err) || fruitless >= attempts {
			return fmt.Errorf("download %s: %w%s", i.URL, err, kept(p))
		}
		c.tell("the download broke off at %s (%v); it goes on from there", Bytes(p.size()), err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("download %s: %w%s", i.URL, ctx.Err(), kept(p))
		case <-time.After(pause):
		}
		pause *= 2
	}
	if _, err := verified(p.path, sum); err != nil {
		var wrong *SumError
		if errors.As(err, &wrong) {
			wrong.File = i.URL
			p.remove()
		}
		return err
	}
	if err := os.Rename(p.path, target); err != nil {
		return err
	}
	_ = os.Remove(p.tag())
	return nil
}

func kept(p partial) string {
	if n := p.size(); n > 0 {
		return fmt.Sprintf("; %s are kept, and the next try goes on from there", Bytes(n))
	}
	return ""
}

// statusError is an answer that is not the image.
type statusError struct {
	code int
	text string
}

// Error is the server's word.
func (e *statusError) Error() string { return "the server says " + e.text }

// fatal reports whether the same request would fail again.
func fatal(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 400 && status.code < 500 && status.code != http.StatusTooManyRequests && status.code != http.StatusRequestTimeout
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, fs.ErrPermission)
}

// fetch asks for what is missing of a file, and appends what comes.
func (c *Cache) fetch(ctx context.Context, i Image, p partial) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL, nil)
	if err != nil {
		return err
	}
	have := p.size()
	tag, err := os.ReadFile(p.tag())
	if err != nil || len(tag) == 0 {
		have = 0 // nobody knows what that is a part of
	}
	if have > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		request.Header.Set("If-Range", string(tag))
	}
	response, err := c.client().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	flags := os.O_CREATE | os.O_WRONLY
	switch response.StatusCode {
	case http.StatusPartialContent:
		if err := continues(response.Header.Get("Content-Range"), have); err != nil {
			p.remove()
			return err
		}
		flags |= os.O_APPEND
	case http.StatusOK:
		have = 0
		flags |= os.O_TRUNC
	case http.StatusRequestedRangeNotSatisfiable:
		if total, known := totalOf(response.Header.Get("Content-Range")); known && total == have {
			return nil // it is all there
		}
		p.remove()
		return errors.New("the server has another image now")
	default:
		return &statusError{response.StatusCode, response.Status}
	}
	if err := os.WriteFile(p.tag(), []byte(validator(response.Header)), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(p.path, flags, 0o600)
	if err != nil {
		return err
	}
	total := int64(-1)
	if response.ContentLength >= 0 {
		total = have + response.ContentLength
	}
	watch := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("nothing has come for %s", stalled)) })
	defer watch.Stop()
	meter := c.start(i.Name, total, have)
	_, err = io.Copy(io.MultiWriter(f, meter, alive{watch}), response.Body)
	_ = meter.Close()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// alive puts off the end of a connection from which something comes.
type alive struct{ *time.Timer }

func (a alive) Write(p []byte) (int, error) {
	a.Reset(stalled)
	return len(p), nil
}

// validator is what the server calls this version. A weak tag is of no use: it says that
// two versions are alike, not that they are the same byte for byte.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// continues reports as an error that a part does not begin where the last one has ended.
func continues(contentRange string, have int64) error {
	from, _, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "-")
	if n, err := strconv.ParseInt(from, 10, 64); err != nil || n != have {
		return fmt.Errorf("the server was asked for what comes after %d bytes, and sends %q", have, contentRange)
	}
	return nil
}

func totalOf(contentRange string) (int64, bool) {
	_, total, found := strings.Cut(contentRange, "/")
	n, err := strconv.ParseInt(total, 10, 64)
	return n, found && err == nil
}
