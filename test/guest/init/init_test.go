package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestTheGuestAgentAnswers(t *testing.T) {
	for _, tt := range []struct{ name, ask, want string }{
		{"a ping", `{"execute":"guest-ping"}`, `{"return":{}}` + "\n"},
		{"a number is said back", `{"execute":"guest-sync","arguments":{"id":1234567890123}}`, `{"return":1234567890123}` + "\n"},
		{"a conversation begins anew", "\xff" + `{"execute":"guest-sync-delimited","arguments":{"id":5}}`, "\xff" + `{"return":5}` + "\n"},
		{"a command that it does not know", `{"execute":"guest-file-open"}`, `{"error":{"class":"CommandNotFound","desc":"The command guest-file-open has not been found"}}` + "\n"},
		{"an empty line", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rw := &channel{in: strings.NewReader(tt.ask + "\n")}
			if err := converse(rw); err != nil {
				t.Fatal(err)
			}
			if got := rw.out.String(); got != tt.want {
				t.Errorf("it answers %q, want %q", got, tt.want)
			}
		})
	}
	rw := &channel{in: strings.NewReader("{torn\n")}
	if err := converse(rw); err != nil || !strings.Contains(rw.out.String(), "GenericError") {
		t.Errorf("it answers %q to what is no JSON, %v", rw.out.String(), err)
	}
}

func TestAShutdownHasNoAnswer(t *testing.T) {
	if answer, after := respond([]byte(`{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}`)); answer != nil || after == nil {
		t.Errorf("answer %q, and nothing to do afterwards: %t", answer, after == nil)
	}
}

// channel is a guest agent's with both ends apart.
type channel struct {
	in  *strings.Reader
	out bytes.Buffer
}

func (c *channel) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *channel) Write(b []byte) (int, error) { return c.out.Write(b) }

func TestASeedIsRead(t *testing.T) {
	for text, want := range map[string]seed{
		"instance-id: i-1\nlocal-hostname: shop-1-till\n": {instanceID: "i-1", hostname: "shop-1-till"},
		"{\n  \"instance-id\": \"i-1\",\n}":               {instanceID: "i-1"},
		"":                                                {},
	} {
		if got := parseSeed(text); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
}

func TestBootsAreCountedOnEmptyDisksAlone(t *testing.T) {
	first := make([]byte, sector)
	for n := uint32(1); n <= 3; n++ {
		next, ok := counted(first)
		if !ok || binary.BigEndian.Uint32(next[len(mark):]) != n {
			t.Fatalf("boot %d: %t, % x", n, ok, next[:20])
		}
		first = next
	}
	first[0] = 'x'
	if _, ok := counted(first); ok {
		t.Error("a disk with other content is written to")
	}
}

func TestOnlyThePowerButtonGoingDownPowersOff(t *testing.T) {
	event := func(kind, code uint16, value uint32) []byte {
		b := make([]byte, eventSize)
		binary.LittleEndian.PutUint16(b[16:], kind)
		binary.LittleEndian.PutUint16(b[18:], code)
		binary.LittleEndian.PutUint32(b[20:], value)
		return b
	}
	for _, tt := range []struct {
		name  string
		event []byte
		want  bool
	}{
		{"down", event(1, 116, 1), true},
		{"up", event(1, 116, 0), false},
		{"another key", event(1, 30, 1), false},
		{"the end of a group of events", event(0, 0, 0), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pressed(tt.event); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
}

func TestMemoryIsRead(t *testing.T) {
	if got := memory("MemTotal:         58264 kB\nMemFree:  1 kB\n"); got != 58264 {
		t.Errorf("%d KiB", got)
	}
}
