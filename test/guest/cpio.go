package guest

import (
	"fmt"
	"io"
)

// archive writes files in the format of an initramfs.
// https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html
type archive struct {
	w   io.Writer
	n   int64 // bytes written, which entries are aligned by
	ino int
	err error
}

// Kinds of files, as in a file's mode.
const (
	folder    = 0o040000
	regular   = 0o100000
	character = 0o020000
)

func (a *archive) add(name string, mode int, content []byte) { a.entry(name, mode, 0, 0, content) }

// device adds the node of a character device.
func (a *archive) device(name string, mode, major, minor int) {
	a.entry(name, character|mode, major, minor, nil)
}

func (a *archive) entry(name string, mode, major, minor int, content []byte) {
	a.ino++
	const owner, links, time, checksum = 0, 1, 0, 0
	a.write([]byte("070701"))
	for _, field := range []int{a.ino, mode, owner, owner, links, time, len(content), 0, 0, major, minor, len(name) + 1, checksum} {
		a.write(fmt.Appendf(nil, "%08X", field))
	}
	a.write(append([]byte(name), 0))
	a.align()
	a.write(content)
	a.align()
}

// close writes the last entry, and returns the first error of all.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}

func (a *archive) align() { a.write(make([]byte, (4-a.n%4)%4)) }

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.n, a.err = a.n+int64(n), err
}
