// Package cloudinit makes what a cloud image reads at its first boot: who may log in, and
// what to run.
package cloudinit

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// Label is the label by which cloud-init finds a seed among the disks of a machine.
// https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
const Label = "cidata"

// MaxSeed is how many bytes the files of a seed may have together. What is larger belongs
// on a disk of its own: cloud-init keeps a seed in memory and on the machine's disk.
const MaxSeed = 1 << 20

// File is a file of a medium.
type File struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// Seed is the disk with a seed. networkConfig may be nil: the machine asks for an address
// then as it is used to.
func Seed(userData, metaData, networkConfig []byte) ([]byte, error) {
	files := []File{{"user-data", 0o600, userData}, {"meta-data", 0o600, metaData}}
	if networkConfig != nil {
		files = append(files, File{"network-config", 0o600, networkConfig})
	}
	total := 0
	for _, f := range files {
		total += len(f.Data)
	}
	if total > MaxSeed {
		return nil, fmt.Errorf("the seed is too large: its files have %d bytes together (user-data %d), and %d are the most; put what is large on a disk of its own, or have the machine fetch it", total, len(userData), MaxSeed)
	}
	return Medium(Label, files)
}

// blockSize is that of an ISO.
const blockSize = 2048

// Medium is a disk that can only be read, with files and a label.
func Medium(label string, files []File) ([]byte, error) {
	// The library makes a disk of a folder. Others may not look into it: there are secrets
	// in a seed.
	dir, err := os.MkdirTemp("", "fleet-medium-")
	if err != nil {
		return nil, fmt.Errorf("make the disk %s: %w", label, err)
	}
	defer os.RemoveAll(dir)
	image, err := medium(dir, label, files)
	if err != nil {
		return nil, fmt.Errorf("make the disk %s: %w", label, err)
	}
	return image, nil
}

func medium(dir, label string, files []File) ([]byte, error) {
	workspace := filepath.Join(dir, "files")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return nil, err
	}
	for _, f := range files {
		path := filepath.Join(workspace, f.Name)
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return nil, err
		}
		// Whatever this user's umask takes away.
		if err := os.Chmod(path, f.Mode); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "iso")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	iso, err := iso9660.Create(file.New(f, false), 0, 0, blockSize, workspace)
	if err != nil {
		return nil, err
	}
	if err := iso.Finalize(iso9660.FinalizeOptions{VolumeIdentifier: label, RockRidge: true, Joliet: true}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
