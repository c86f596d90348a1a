package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleet/provision/libvirt"
)

// machines are the numbers of architectures in a binary, and goarch their names in the
// names of files.
var (
	machines = map[libvirt.Arch]elf.Machine{libvirt.X86_64: elf.EM_X86_64, libvirt.AArch64: elf.EM_AARCH64}
	goarch   = map[libvirt.Arch]string{libvirt.X86_64: "amd64", libvirt.AArch64: "arm64"}
)

// findAgent finds the agent's binary for an architecture: the one that is named, or the
// first of those in the directories that is for it.
func findAgent(named string, arch libvirt.Arch, dirs ...string) (string, error) {
	if named != "" {
		if err := isFor(named, arch); err != nil {
			return "", fmt.Errorf("--agent: %w", err)
		}
		return named, nil
	}
	var looked []string
	for _, dir := range dirs {
		for _, name := range []string{"fleet-agent-linux-" + goarch[arch], "fleet-agent"} {
			path := filepath.Join(dir, name)
			err := isFor(path, arch)
			if err == nil {
				return path, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				looked = append(looked, err.Error())
				continue
			}
			looked = append(looked, path+" is not there")
		}
	}
	return "", fmt.Errorf("the agent's binary for %s is missing (%s): name it with --agent, or put it there", arch, strings.Join(looked, "; "))
}

// isFor reports as an error that a file is no program for an architecture. A machine with
// another's would boot and never join.
func isFor(path string, arch libvirt.Arch) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	binary, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s is no program for Linux", path)
	}
	if binary.Machine != machines[arch] {
		return fmt.Errorf("%s is for %s, and the machine is %s", path, strings.ToLower(strings.TrimPrefix(binary.Machine.String(), "EM_")), arch)
	}
	return nil
}
