package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// agentChannel is what libvirt calls the channel of a guest agent.
const agentChannel = "org.qemu.guest_agent.0"

// serveAgent answers on the guest agent's channel, if the machine has one.
func serveAgent() {
	ports, _ := filepath.Glob("/sys/class/virtio-ports/*")
	for _, port := range ports {
		if text(filepath.Join(port, "name")) != agentChannel {
			continue
		}
		f, err := os.OpenFile(filepath.Join("/dev", filepath.Base(port)), os.O_RDWR, 0)
		if err != nil {
			say("%v", err)
			return
		}
		for {
			// The end of the file is there whenever nobody listens on the host, and nothing
			// tells when somebody does again.
			if err := converse(f); err != nil {
				say("guest agent: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// sentinel goes before what begins a conversation anew.
const sentinel = 0xff

// converse answers each line with one.
func converse(rw io.ReadWriter) error {
	lines := bufio.NewScanner(rw)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := bytes.TrimLeft(lines.Bytes(), "\xff")
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		answer, after := respond(line)
		if answer != nil {
			if _, err := rw.Write(answer); err != nil {
				return err
			}
		}
		if after != nil {
			after()
		}
	}
	return lines.Err()
}

// respond carries out one command of the guest agent's protocol and returns the answer,
// and what is to be done once it is sent.
// https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
func respond(line []byte) (answer []byte, after func()) {
	var command struct {
		Execute   string `json:"execute"`
		Arguments struct {
			ID   json.RawMessage `json:"id"`
			Mode string          `json:"mode"`
		} `json:"arguments"`
	}
	if err := json.Unmarshal(line, &command); err != nil {
		return failure("GenericError", err.Error()), nil
	}
	switch command.Execute {
	case "guest-sync":
		return success(command.Arguments.ID), nil
	case "guest-sync-delimited":
		return append([]byte{sentinel}, success(command.Arguments.ID)...), nil
	case "guest-ping":
		return success(struct{}{}), nil
	case "guest-info":
		return success(map[string]any{"version": "0", "supported_commands": []any{}}), nil
	case "guest-network-get-interfaces":
		return success(interfaces()), nil
	case "guest-shutdown":
		// It has no answer when it succeeds.
		if command.Arguments.Mode == "reboot" {
			return nil, func() { unix.Sync(); say("reboot: %v", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) }
		}
		return nil, powerOff
	default:
		return failure("CommandNotFound", fmt.Sprintf("The command %s has not been found", command.Execute)), nil
	}
}

func success(value any) []byte { return encode(map[string]any{"return": value}) }

func failure(class, text string) []byte {
	return encode(map[string]any{"error": map[string]string{"class": class, "desc": text}})
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return failure("GenericError", "the answer can't be encoded")
	}
	return append(raw, '\n')
}

// interfaces are those of the network with their addresses.
func interfaces() []any {
	list := []any{}
	all, _ := net.Interfaces()
	for _, i := range all {
		addresses := []any{}
		found, _ := i.Addrs()
		for _, a := range found {
			ip, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			kind := "ipv6"
			if ip.IP.To4() != nil {
				kind = "ipv4"
			}
			ones, _ := ip.Mask.Size()
			addresses = append(addresses, map[string]any{"ip-address": ip.IP.String(), "ip-address-type": kind, "prefix": ones})
		}
		list = append(list, map[string]any{"name": i.Name, "hardware-address": i.HardwareAddr.String(), "ip-addresses": addresses})
	}
	return list
}
