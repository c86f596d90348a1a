package main

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// seed is what a cloud-init seed says.
type seed struct{ instanceID, hostname, userData string }

// readSeed reads the first disk that holds a seed; without one all is empty.
func readSeed() seed {
	disks, _ := filepath.Glob("/sys/block/[sv][dr]*")
	for _, disk := range disks {
		if unix.Mount("/dev/"+filepath.Base(disk), "/seed", "iso9660", unix.MS_RDONLY, "") != nil {
			continue // another kind of disk
		}
		s := parseSeed(text("/seed/meta-data"))
		s.userData = text("/seed/user-data")
		if err := unix.Unmount("/seed", 0); err != nil {
			say("unmount /seed: %v", err)
		}
		return s
	}
	return seed{}
}

// parseSeed reads meta-data, as far as that has a line for each thing.
func parseSeed(metaData string) seed {
	var s seed
	for line := range strings.Lines(metaData) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(strings.TrimSpace(value), `",'`)
		switch strings.Trim(strings.TrimSpace(name), `"'`) {
		case "instance-id":
			s.instanceID = value
		case "local-hostname":
			s.hostname = value
		}
	}
	return s
}
