package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleet/test/guest/tiny"
)

// guest is what is found at boot.
type guest struct {
	seed  seed
	boots map[string]int
}

// serve answers HTTP, of which it knows no more than an answer takes: a whole server would
// be the larger part of what is loaded at each boot.
func (g *guest) serve() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", tiny.Port))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := g.answer(conn); err != nil {
				say("answer %s: %v", conn.RemoteAddr(), err)
			}
		}()
	}
}

func (g *guest) answer(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	request := bufio.NewReader(conn)
	for {
		line, err := request.ReadString('\n')
		if err != nil {
			return nil // somebody who only looks whether the port is open
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	body, err := json.Marshal(g.hello())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err
}

func (g *guest) hello() tiny.Hello {
	useAllCPUs()
	name, _ := os.Hostname()
	return tiny.Hello{
		Hostname: name, InstanceID: g.seed.instanceID, UserData: g.seed.userData, Boots: g.boots,
		CPUs: strings.Count("\n"+text("/proc/cpuinfo"), "\nprocessor\t"), MemoryKiB: memory(text("/proc/meminfo")),
		BootID: text("/proc/sys/kernel/random/boot_id"),
	}
}

// useAllCPUs uses those that were plugged in since.
func useAllCPUs() {
	switches, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/online")
	for _, file := range switches {
		if text(file) == "0" {
			_ = os.WriteFile(file, []byte("1"), 0) // the answer tells how many there are
		}
	}
}

// memory is the total in KiB, from /proc/meminfo.
func memory(info string) int {
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}
