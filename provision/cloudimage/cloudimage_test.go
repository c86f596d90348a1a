package cloudimage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt"
)

func sha(data []byte) Sum {
	digest := sha256.Sum256(data)
	return Sum{"sha256", hex.EncodeToString(digest[:])}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(file, make([]byte, 512), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha([]byte("x"))
	for name, tt := range map[string]struct {
		text string
		arch libvirt.Arch
		sum  Sum
		want string // in the image's URL or path, or in the error
		fail bool
	}{
		"a name of the catalogue":              {"debian-12", libvirt.X86_64, Sum{}, "debian-12-genericcloud-amd64.qcow2", false},
		"it has another file for another arch": {"debian-12", libvirt.AArch64, Sum{}, "genericcloud-arm64.qcow2", false},
		"a file":                               {file, libvirt.X86_64, Sum{}, file, false},
		"a URL with its sum":                   {"https://example.com/a.qcow2?x=1", libvirt.X86_64, sum, "https://example.com/a.qcow2", false},
		"a URL without":                        {"https://example.com/a.qcow2", libvirt.X86_64, Sum{}, "--sha256", true},
		"a URL of another kind":                {"ftp://example.com/a", libvirt.X86_64, sum, "http or https", true},
		"a name that is none":                  {"debain-12", libvirt.X86_64, Sum{}, "nor one of debian-12", true},
		"a folder":                             {dir, libvirt.X86_64, Sum{}, "is not a file", true},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := Find(tt.text, tt.arch, tt.sum)
			if tt.fail {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%+v, %v", i, err)
				}
				return
			}
			if err != nil || !strings.Contains(i.URL+i.Path, tt.want) {
				t.Errorf("%+v, %v", i, err)
			}
		})
	}
}

func TestSums(t *testing.T) {
	good := sha(nil).Hex
	for name, tt := range map[string]struct {
		algorithm, text, want string
	}{
		"capitals are fine":        {"sha256", " " + strings.ToUpper(good) + "\n", ""},
		"another algorithm":        {"md5", good, "must be sha256 or sha512"},
		"a sum of another length":  {"sha512", good, "must be 128 digits"},
		"letters that are no hex":  {"sha256", strings.Repeat("z", 64), "must be 64 digits"},
		"nothing instead of a sum": {"sha256", "", "must be 64 digits"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSum(tt.algorithm, tt.text)
			if tt.want == "" && (err != nil || s.Hex != good) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	sums := good + "  a.qcow2\n" + sha([]byte("b")).Hex + " *b.qcow2\n"
	if s, err := sumIn(sums, "b.qcow2"); err != nil || s != sha([]byte("b")) {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := sumIn(sums, "qcow2"); err == nil {
		t.Error("part of a name was taken for it")
	}
}

// qcow2 is a small image: one table of tables, one table, one cluster of data.
func qcow2(change func(h *qcow2Header)) []byte {
	const cluster = 1 << 16
	h := qcow2Header{Magic: qcow2Magic, Version: 3, ClusterBits: 16, Capacity: 1 << 30, L1Size: 2, L1Offset: cluster}
	change(&h)
	data := make([]byte, 4*cluster)
	if _, err := binary.Encode(data, binary.BigEndian, h); err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint64(data[cluster:], 2*cluster|1<<63)
	binary.BigEndian.PutUint64(data[2*cluster:], 3*cluster|1<<63)
	return data
}

func TestInspect(t *testing.T) {
	whole := qcow2(func(*qcow2Header) {})
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"a whole one":                      {whole, ""},
		"raw sectors":                      {make([]byte, 4096), ""},
		"data is missing at the end":       {whole[:3<<16], "only half copied"},
		"a table is missing":               {whole[:2<<16+100], "only half copied"},
		"the table of tables is missing":   {whole[:1<<16], "only half copied"},
		"it ends within the header":        {whole[:40], "only half copied"},
		"nothing at all":                   {nil, "0 bytes"},
		"raw, and not whole sectors":       {make([]byte, 1000), "half of one"},
		"it would read a file of the host": {qcow2(func(h *qcow2Header) { h.BackingOffset = 200 }), "difference to another file"},
		"its data is in a file elsewhere":  {qcow2(func(h *qcow2Header) { h.Incompatible = bitExternal }), "data is in another file"},
		"a version of the future":          {qcow2(func(h *qcow2Header) { h.Version = 9 }), "version 9"},
		"a table that has no end":          {qcow2(func(h *qcow2Header) { h.L1Size = 1 << 31 }), "damaged"},
		"a table beyond all files":         {qcow2(func(h *qcow2Header) { h.L1Offset = 1<<64 - 8 }), "only half copied"},
		"compressed as a whole":            {append([]byte("\x1f\x8b"), make([]byte, 510)...), "compressed with gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(file, tt.data, 0o644); err != nil {
				t.Fatal(err)
			}
			d, err := Inspect(file)
			switch {
			case tt.want != "":
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
					t.Errorf("%+v, %v", d, err)
				}
			case err != nil:
				t.Error(err)
			case d.Format == QCOW2 && d.Capacity != 1<<30, d.Format == Raw && d.Capacity != 4096:
				t.Errorf("%+v", d)
			}
		})
	}
}

// FuzzInspect holds it to end, whatever a file says of itself.
func FuzzInspect(f *testing.F) {
	f.Add(qcow2(func(*qcow2Header) {})[:3<<16])
	f.Add([]byte("QFI\xfb"))
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := Inspect(file)
		if err == nil && d.Format != QCOW2 && d.Format != Raw {
			t.Errorf("%+v", d)
		}
	})
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 350 << 20: "350.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
