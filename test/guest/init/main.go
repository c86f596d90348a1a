// Command init is the first and only process of the tiny guest that virtual machines boot
// in tests. It brings up the network, says what it sees to whoever asks, answers as a
// guest agent, and powers off when the power button is pressed.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			say("mount %s: %v", m.at, err)
		}
	}
	if err := loadModules("/modules"); err != nil {
		say("%v", err)
	}
	g := &guest{seed: readSeed(), boots: countBoots()}
	if name := g.seed.hostname; name != "" {
		if err := unix.Sethostname([]byte(name)); err != nil {
			say("set the host name %s: %v", name, err)
		}
	}
	go watchPowerButton()
	go serveAgent()
	go bringUp()
	// The kernel panics when its first process ends, so whatever goes wrong is said and
	// survived.
	say("%v", g.serve())
	select {}
}

// say writes on the console.
func say(format string, args ...any) { fmt.Printf("guest: "+format+"\n", args...) }

// loadModules loads every module of a folder in the order of their names.
func loadModules(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			// Others may do without it.
			say("load %s: %v", file, err)
		}
	}
	return nil
}

// powerOff ends the guest.
func powerOff() {
	say("powering off")
	unix.Sync()
	say("power off: %v", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// text is a file's content without the space around; empty when it can't be read.
func text(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
