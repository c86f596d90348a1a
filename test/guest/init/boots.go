package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
)

const (
	sector = 512
	// mark begins the first sector of a disk that boots are counted on.
	mark = "fleet boots\n"
	// isoMark is where and how a file system of CDs says what it is.
	isoOffset, isoMark = 0x8001, "CD001"
)

// countBoots counts this boot on every disk that was empty once. Others it leaves alone.
func countBoots() map[string]int {
	boots := map[string]int{}
	disks, _ := filepath.Glob("/sys/block/vd*")
	for _, disk := range disks {
		name := filepath.Base(disk)
		if text(filepath.Join(disk, "ro")) != "0" {
			continue
		}
		n, err := countBoot("/dev/" + name)
		if err != nil {
			say("count boots on %s: %v", name, err)
			continue
		}
		if n > 0 {
			boots[name] = n
		}
	}
	return boots
}

// countBoot is how often a guest has booted with a disk, or 0 for one that has other
// content.
func countBoot(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	first := make([]byte, sector)
	if _, err := f.ReadAt(first, 0); err != nil {
		return 0, err
	}
	iso := make([]byte, len(isoMark))
	if _, err := f.ReadAt(iso, isoOffset); err == nil && string(iso) == isoMark {
		return 0, nil
	}
	next, ok := counted(first)
	if !ok {
		return 0, nil
	}
	_, err = f.WriteAt(next, 0)
	return int(binary.BigEndian.Uint32(next[len(mark):])), err
}

// counted is the first sector after one boot more; false when it has other content.
func counted(first []byte) ([]byte, bool) {
	empty := strings.Trim(string(first), "\x00") == ""
	if !empty && !strings.HasPrefix(string(first), mark) {
		return nil, false
	}
	next := make([]byte, len(first))
	copy(next, first)
	copy(next, mark)
	count := next[len(mark):]
	binary.BigEndian.PutUint32(count, binary.BigEndian.Uint32(count)+1)
	return next, true
}
