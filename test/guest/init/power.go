package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
)

// An input event as the kernel gives it on a 64-bit machine: 16 bytes of time, kind, code
// and value. https://www.kernel.org/doc/html/latest/input/input.html
const (
	eventSize = 24
	eventKey  = 1
	keyPower  = 116
)

// watchPowerButton powers off when the button is pressed, which is how a host asks a guest
// to end.
func watchPowerButton() {
	inputs, _ := filepath.Glob("/sys/class/input/event*")
	for _, input := range inputs {
		if text(filepath.Join(input, "device", "name")) != "Power Button" {
			continue
		}
		f, err := os.Open(filepath.Join("/dev/input", filepath.Base(input)))
		if err != nil {
			say("%v", err)
			continue
		}
		go func() {
			defer f.Close()
			event := make([]byte, eventSize)
			for {
				if n, err := f.Read(event); err != nil || n != eventSize {
					say("read %s: %d bytes, %v", f.Name(), n, err)
					return
				}
				if pressed(event) {
					powerOff()
				}
			}
		}()
	}
}

// pressed reports whether the event is the power button going down.
func pressed(event []byte) bool {
	kind, code := binary.LittleEndian.Uint16(event[16:]), binary.LittleEndian.Uint16(event[18:])
	return kind == eventKey && code == keyPower && binary.LittleEndian.Uint32(event[20:]) == 1
}
