package podman

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// How much of a log's end is looked at.
const (
	logLines = 20
	logBytes = 64 << 10
)

// Log is the end of a container's log, both streams in the order of writing.
func (d *Driver) Log(ctx context.Context, id string) (string, error) {
	body, err := d.c.open(ctx, "GET", "/containers/"+id+"/logs", url.Values{
		"stdout": {"true"}, "stderr": {"true"}, "tail": {strconv.Itoa(logLines)},
	}, nil)
	if err != nil {
		return "", fmt.Errorf("read the log of container %s: %w", short(id), err)
	}
	defer body.Close()
	text, err := demultiplex(io.LimitReader(body, logBytes))
	if err != nil {
		return text, fmt.Errorf("read the log of container %s: %w", short(id), err)
	}
	return text, nil
}

// LogOptions say which part of a log is wanted.
type LogOptions struct {
	// Tail is how many lines of the end, all when nil.
	Tail *int64
	// Since leaves out what is older; zero leaves out nothing.
	Since time.Time
	// Follow goes on with what is written until the container ends.
	Follow bool
	// Timestamps puts the time before each line.
	Timestamps bool
}

// StreamLog writes a container's log, both streams in the order of writing, as it
// comes: a line may be of any length.
func (d *Driver) StreamLog(ctx context.Context, id string, o LogOptions, w io.Writer) error {
	all := &skipping{w: w}
	err := d.streamLog(ctx, id, o, all)
	if err == nil && o.Follow && o.Tail == nil {
		// When the container ends podman gives up following after a moment, with whatever
		// a slow reader has not taken. The log is only ever added to, so the rest of it
		// is what comes after as much as there was.
		o.Follow = false
		err = d.streamLog(ctx, id, o, &skipping{w: w, skip: all.written})
	}
	if err != nil {
		return commandError("read the log of container "+short(id), err)
	}
	return nil
}

func (d *Driver) streamLog(ctx context.Context, id string, o LogOptions, w io.Writer) error {
	query := url.Values{"stdout": {"true"}, "stderr": {"true"}}
	if o.Tail != nil {
		query.Set("tail", strconv.FormatInt(*o.Tail, 10))
	}
	if !o.Since.IsZero() {
		query.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if o.Follow {
		query.Set("follow", "true")
	}
	if o.Timestamps {
		query.Set("timestamps", "true")
	}
	body, err := d.c.open(ctx, http.MethodGet, "/containers/"+id+"/logs", query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return split(body, w, w)
}

// skipping writes all but the beginning.
type skipping struct {
	w             io.Writer
	skip, written int64
}

func (s *skipping) Write(p []byte) (int, error) {
	skipped := int(min(s.skip, int64(len(p))))
	s.skip -= int64(skipped)
	if skipped == len(p) {
		return skipped, nil
	}
	n, err := s.w.Write(p[skipped:])
	s.written += int64(n)
	return skipped + n, err
}

// split takes apart what podman puts into one stream: each frame has a head of eight
// bytes, the first of which says which of the two it is of, and the last four how long
// it is
// (https://docs.docker.com/reference/api/engine/version/v1.40/#tag/Container/operation/ContainerAttach).
func split(r io.Reader, stdout, stderr io.Writer) error {
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		w := stdout
		if head[0] == 2 {
			w = stderr
		}
		_, err := io.CopyN(w, r, int64(binary.BigEndian.Uint32(head[4:])))
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}

// demultiplex is both streams of a log. What was cut off is left out.
func demultiplex(r io.Reader) (string, error) {
	var out strings.Builder
	if err := split(r, &out, &out); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return strings.ToValidUTF8(out.String(), "\ufffd"), nil
}
