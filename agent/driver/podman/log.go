package podman

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
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

// demultiplex takes the frames off a log: each has a head of eight bytes, the last
// four of which are its length
// (https://docs.docker.com/reference/api/engine/version/v1.40/#tag/Container/operation/ContainerAttach).
// What was cut off is left out.
func demultiplex(r io.Reader) (string, error) {
	var out strings.Builder
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			return "", err
		}
		_, err := io.CopyN(&out, r, int64(binary.BigEndian.Uint32(head[4:])))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.ToValidUTF8(out.String(), "\ufffd"), nil
}
