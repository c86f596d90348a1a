package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// disk is an image to be made: a GPT with GRUB for a PC's BIOS in one partition, and a
// folder's content as ext4 in the other. Neither mounts nor loop devices take part, so
// that it can be made in a container.
type disk struct {
	// content is the folder.
	content string
	// size of the whole disk in bytes.
	size int64
	boot boot
}

// boot is what GRUB does at once.
type boot struct{ kernel, initrd, cmdline string }

// config is GRUB's. It is part of its core image, which finds the root beside itself.
func (b boot) config() string {
	return fmt.Sprintf("linux %s %s\ninitrd %s\nboot\n", b.kernel, b.cmdline, b.initrd)
}

// Where the partitions are, in sectors. The last MiB has the second partition table, which
// the file system must leave alone.
const (
	sector    = 512
	bootStart = 2048
	bootSize  = 2048
	rootStart = bootStart + bootSize
	tail      = 2048
)

// write makes the image at the path, in qcow2.
func (d disk) write(ctx context.Context, path string) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("disk images are made for a PC's BIOS, and this machine is %s", runtime.GOARCH)
	}
	raw := path + ".raw"
	defer os.Remove(raw)
	if err := d.writeRaw(ctx, raw); err != nil {
		return err
	}
	_, err := run(ctx, "", "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, path)
	return err
}

func (d disk) writeRaw(ctx context.Context, raw string) (err error) {
	f, err := os.OpenFile(raw, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(d.size); err != nil {
		return err
	}
	sectors := uint64(d.size / sector)
	table := &gpt.Table{ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 1, Start: bootStart, End: rootStart - 1, Type: gpt.BIOSBoot, Name: "grub"},
		{Index: 2, Start: rootStart, End: sectors - tail - 1, Type: gpt.LinuxFilesystem, Name: "root"},
	}}
	if err := table.Write(f, d.size); err != nil {
		return err
	}
	// A label, because names of disks depend on what else a machine has. The feature is one
	// that GRUB does not read.
	_, err = run(ctx, "", "mke2fs", "-q", "-t", "ext4", "-L", rootLabel, "-m", "1", "-O", "^metadata_csum_seed",
		"-E", fmt.Sprintf("offset=%d,lazy_itable_init=0,root_owner=0:0", rootStart*sector), "-d", d.content,
		raw, fmt.Sprintf("%dk", (sectors-tail-rootStart)*sector/1024))
	if err != nil {
		return err
	}
	return d.boot.install(ctx, f, filepath.Dir(raw))
}

// rootLabel is what the file system goes by.
const rootLabel = "fleet-root"

// install writes GRUB into the image as its own setup does, which wants a real disk:
// the boot sector loads one sector, that one the rest.
// https://www.gnu.org/software/grub/manual/grub/html_node/Images.html
func (b boot) install(ctx context.Context, image *os.File, dir string) error {
	first, core, err := b.grub(ctx, dir)
	if err != nil {
		return err
	}
	if len(core) > bootSize*sector {
		return fmt.Errorf("grub is of %d bytes, its partition of %d", len(core), bootSize*sector)
	}
	if err := link(first, core, bootStart); err != nil {
		return err
	}
	// The partition table is in the boot sector's end.
	if _, err := image.WriteAt(first[:440], 0); err != nil {
		return err
	}
	_, err = image.WriteAt(core, bootStart*sector)
	return err
}

// Offsets in GRUB's boot sector and in the first sector of its core image, from its
// include/grub/i386/pc/boot.h: the sector of the core image, a check of the BIOS's drive
// number that older BIOSes fail, and the last list of sectors to load.
const (
	kernelSector = 0x5c
	driveCheck   = 0x66
	blockList    = sector - 12
)

// link tells the boot sector where the core image begins, and that where the rest of it is.
func link(first, core []byte, start uint64) error {
	if len(first) != sector || len(core) < 2*sector {
		return fmt.Errorf("grub's boot sector is of %d bytes and its core of %d", len(first), len(core))
	}
	binary.LittleEndian.PutUint64(first[kernelSector:], start)
	first[driveCheck], first[driveCheck+1] = 0x90, 0x90 // no operation
	binary.LittleEndian.PutUint64(core[blockList:], start+1)
	binary.LittleEndian.PutUint16(core[blockList+8:], uint16((len(core)-1)/sector)) // all but the first, rounded up
	return nil
}

// grub makes the boot sector and the core image.
func (b boot) grub(ctx context.Context, dir string) (first, core []byte, err error) {
	const modules = "/usr/lib/grub/i386-pc"
	if first, err = os.ReadFile(filepath.Join(modules, "boot.img")); err != nil {
		return nil, nil, fmt.Errorf("%w: run `make deps-machines`", err)
	}
	work, err := os.MkdirTemp(dir, "grub-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(work)
	config := filepath.Join(work, "config")
	if err := os.WriteFile(config, []byte(b.config()), 0o600); err != nil {
		return nil, nil, err
	}
	out := filepath.Join(work, "core")
	// The second partition of the disk that it was loaded from.
	if _, err := run(ctx, "", "grub-mkimage", "-O", "i386-pc", "-d", modules, "-c", config, "-o", out, "-p", "(,gpt2)/",
		"biosdisk", "part_gpt", "ext2", "linux", "boot"); err != nil {
		return nil, nil, err
	}
	core, err = os.ReadFile(out)
	return first, core, err
}
