package libvirt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// qcow2Head is the beginning of a qcow2 image.
func qcow2Head(version uint32, backing, incompatible uint64) []byte {
	head := make([]byte, 512)
	copy(head, "QFI\xfb")
	binary.BigEndian.PutUint32(head[4:], version)
	binary.BigEndian.PutUint64(head[8:], backing)
	binary.BigEndian.PutUint64(head[72:], incompatible)
	return head
}

func TestAnImageIsLookedAtBeforeItIsUploaded(t *testing.T) {
	for _, test := range []struct {
		name, format string
		head         []byte
		want         string
	}{
		{"qcow2", "qcow2", qcow2Head(3, 0, 0), ""},
		{"qcow2 that is to be repaired", "qcow2", qcow2Head(3, 0, 1), ""},
		{"old qcow2", "qcow2", qcow2Head(2, 0, 4), ""},
		{"raw", "raw", append(make([]byte, 510), 0x55, 0xaa), ""},
		{"a copy on write of another file", "qcow2", qcow2Head(3, 512, 0), "copy on write"},
		{"an old copy on write", "qcow2", qcow2Head(2, 512, 0), "copy on write"},
		{"data in another file", "qcow2", qcow2Head(3, 0, 4), "another file"},
		{"an unknown version", "qcow2", qcow2Head(4, 0, 0), "version 4"},
		{"cut off", "qcow2", qcow2Head(3, 0, 0)[:40], "within its header"},
		{"cut off behind the old header", "qcow2", qcow2Head(3, 0, 0)[:76], "within its header"},
		{"an image that is compressed", "qcow2", []byte("\x1f\x8b\x08\x00"), "not of format qcow2"},
		{"a web page", "qcow2", []byte("<!doctype html>"), "not of format qcow2"},
		{"qcow2 that is said to be raw", "raw", qcow2Head(3, 0, 0), "qcow2, not raw"},
		{"nothing but zeros", "raw", make([]byte, 512), "512 zeros"},
		{"an unknown format", "vmdk", []byte("KDMV"), `"vmdk"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkHead(test.format, test.head)
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("the error does not say %q: %v", test.want, err)
			}
		})
	}
}

func TestASourceHasAsManyBytesAsItShould(t *testing.T) {
	cut := errors.New("the line was cut")
	for _, test := range []struct {
		name string
		r    io.Reader
		want string
		err  error
	}{
		{"as many", strings.NewReader("12345"), "12345", nil},
		{"more", strings.NewReader("1234567"), "12345", nil},
		{"one by one", iotest.OneByteReader(strings.NewReader("12345")), "12345", nil},
		{"the end comes with the last", iotest.DataErrReader(strings.NewReader("12345")), "12345", nil},
		{"fewer", strings.NewReader("1234"), "1234", io.ErrUnexpectedEOF},
		{"none", strings.NewReader(""), "", io.ErrUnexpectedEOF},
		{"cut off", io.MultiReader(strings.NewReader("12"), iotest.ErrReader(cut)), "12", cut},
	} {
		t.Run(test.name, func(t *testing.T) {
			var failed error
			got, err := io.ReadAll(&source{test.r, 5, func(err error) { failed = err }})
			if string(got) != test.want || !errors.Is(err, test.err) || !errors.Is(failed, test.err) {
				t.Errorf("%q, %v, and what reads from it is ended with %v", got, err, failed)
			}
		})
	}
}

func FuzzCheckHead(f *testing.F) {
	f.Add(qcow2Head(3, 0, 0))
	f.Add(qcow2Head(2, 512, 0))
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if checkHead("qcow2", head) == nil && (!bytes.HasPrefix(head, []byte("QFI\xfb")) || !isZero(head[8:16])) {
			t.Errorf("%x is taken for an image that refers to nothing", head)
		}
	})
}
