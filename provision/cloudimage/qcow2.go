package cloudimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Disk is an image that is there.
type Disk struct {
	Path string
	// Format is qcow2 or raw, and Size how many bytes the file has.
	Format string
	Size   int64
	// Capacity is the size of the disk that a machine sees.
	Capacity uint64
	Sum      Sum
}

// Formats of images.
const (
	QCOW2 = "qcow2"
	Raw   = "raw"
)

// https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst
const (
	qcow2Magic = 0x514649fb
	// bitExternal is the incompatible feature of data in another file.
	bitExternal = 1 << 2
	// offsetMask are the bits of an entry that say where in the file something is, and
	// bitCompressed has them mean something else.
	offsetMask    = 0x00fffffffffffe00
	bitCompressed = 1 << 62
	// maxL1 bounds what is read of a file that somebody has made up: 32 MiB of entries.
	maxL1 = 4 << 20
)

// sectorSize is what a raw image is a multiple of.
const sectorSize = 512

// other images that people have at hand, by what they begin with.
var compressed = map[string]string{"\x1f\x8b": "gzip", "\xfd7zXZ": "xz", "BZh": "bzip2", "\x28\xb5\x2f\xfd": "zstd", "PK\x03\x04": "zip"}

// Inspect looks at an image's file. It refuses one that was only half copied, and one that
// would have the host read another file of its own for the machine.
func Inspect(path string) (Disk, error) {
	fail := func(err error) (Disk, error) { return Disk{}, fmt.Errorf("image %s: %w", path, err) }
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	d := Disk{Path: path, Format: Raw, Size: info.Size(), Capacity: uint64(info.Size())}
	start := make([]byte, 8)
	if n, err := io.ReadFull(f, start); err != nil {
		return fail(fmt.Errorf("it has %d bytes, which is no image", n))
	}
	if binary.BigEndian.Uint32(start) == qcow2Magic {
		d.Format = QCOW2
		if d.Capacity, err = checkQCOW2(f, info.Size()); err != nil {
			return fail(err)
		}
		return d, nil
	}
	for magic, name := range compressed {
		if string(start[:len(magic)]) == magic {
			return fail(fmt.Errorf("it is compressed with %s: decompress it first", name))
		}
	}
	if info.Size()%sectorSize != 0 {
		return fail(fmt.Errorf("it is neither qcow2 nor a whole number of %d byte sectors: it is no image, or half of one", sectorSize))
	}
	return d, nil
}

type qcow2Header struct {
	Magic, Version   uint32
	BackingOffset    uint64
	BackingSize      uint32
	ClusterBits      uint32
	Capacity         uint64
	Crypt            uint32
	L1Size           uint32
	L1Offset         uint64
	RefcountOffset   uint64
	RefcountClusters uint32
	Snapshots        uint32
	SnapshotsOffset  uint64
	Incompatible     uint64 // of version 3; of version 2 something else follows
}

// checkQCOW2 follows the tables of a file to where its data are, and returns the disk's
// size. QEMU itself would start with a file that ends too early, and the machine would find
// out.
func checkQCOW2(f *os.File, size int64) (uint64, error) {
	var h qcow2Header
	if err := binary.Read(io.NewSectionReader(f, 0, size), binary.BigEndian, &h); err != nil {
		return 0, errors.New("it ends within its header: it was only half copied")
	}
	switch {
	case h.Version != 2 && h.Version != 3:
		return 0, fmt.Errorf("it is qcow2 of version %d, which is not known", h.Version)
	case h.BackingOffset != 0:
		return 0, errors.New("it is the difference to another file, which would be read on the host: make one whole with qemu-img convert -O qcow2")
	case h.Version == 3 && h.Incompatible&bitExternal != 0:
		return 0, errors.New("its data is in another file, which would be read on the host: make one whole with qemu-img convert -O qcow2")
	case h.ClusterBits < 9 || h.ClusterBits > 21, h.L1Size > maxL1:
		return 0, errors.New("its header is damaged")
	}
	end, err := qcow2End(f, h, uint64(size))
	if err != nil {
		return 0, err
	}
	if end > uint64(size) {
		return 0, fmt.Errorf("it has %d bytes, and its tables speak of %d: it was only half copied", size, end)
	}
	return h.Capacity, nil
}

// qcow2End is the end of the last thing that the tables speak of. Data that is compressed
// ends at a sector, of which the last may be short.
func qcow2End(f *os.File, h qcow2Header, size uint64) (uint64, error) {
	short := func(what string) (uint64, error) {
		return 0, fmt.Errorf("it ends before its %s: it was only half copied", what)
	}
	cluster := uint64(1) << h.ClusterBits
	l1 := make([]uint64, h.L1Size)
	if err := readTable(f, h.L1Offset, size, l1); err != nil {
		return short("table of tables")
	}
	end := h.L1Offset + uint64(h.L1Size)*8
	l2 := make([]uint64, cluster/8)
	for _, entry := range l1 {
		at := entry & offsetMask
		if at == 0 {
			continue
		}
		if err := readTable(f, at, size, l2); err != nil {
			return short("tables")
		}
		end = max(end, at+cluster)
		for _, entry := range l2 {
			if entry&bitCompressed != 0 {
				bits := 62 - (h.ClusterBits - 8)
				end = max(end, entry&(1<<bits-1)+1)
			} else if data := entry & offsetMask; data != 0 {
				end = max(end, data+1)
			}
		}
	}
	return end, nil
}

// readTable reads big-endian entries at an offset of the file.
func readTable(f *os.File, offset, size uint64, table []uint64) error {
	if offset > size || uint64(len(table))*8 > size-offset {
		return io.ErrUnexpectedEOF
	}
	return binary.Read(io.NewSectionReader(f, int64(offset), int64(len(table))*8), binary.BigEndian, table)
}
