package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// answer is what a server says, with options as they are.
func answer(xid uint32, address string, options ...byte) []byte {
	b := make([]byte, optionsStart)
	b[0] = 2
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[16:], netip.MustParseAddr(address).AsSlice())
	binary.BigEndian.PutUint32(b[236:], cookie)
	return append(b, options...)
}

func TestAnAnswerOfDHCPIsRead(t *testing.T) {
	const xid = 7
	server := netip.MustParseAddr("192.168.9.1")
	for _, tt := range []struct {
		name   string
		packet []byte
		want   lease
		err    string
	}{
		{
			name:   "an offer",
			packet: answer(xid, "192.168.9.20", 53, 1, 2, 0, 54, 4, 192, 168, 9, 1, 1, 4, 255, 255, 0, 0, 255),
			want:   lease{kind: dhcpOffer, address: netip.MustParseAddr("192.168.9.20"), server: server, mask: [4]byte{255, 255, 0, 0}},
		},
		{
			name:   "without a mask it is the usual one",
			packet: answer(xid, "192.168.9.20", 53, 1, 5, 255),
			want:   lease{kind: dhcpAck, address: netip.MustParseAddr("192.168.9.20"), mask: [4]byte{255, 255, 255, 0}},
		},
		{name: "somebody else's", packet: answer(8, "192.168.9.20", 255), err: "another request"},
		{name: "an option that is cut short", packet: answer(xid, "192.168.9.20", 54, 4, 192), err: "cut short"},
		{name: "an option without a length", packet: answer(xid, "192.168.9.20", 54), err: "cut short"},
		{name: "too short", packet: []byte{2, 1}, err: "not an answer"},
		{name: "a request", packet: request{kind: dhcpDiscover, xid: xid}.encode(), err: "not an answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(tt.packet, xid)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestARequestSaysWhichOfferItTakes(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	b := request{kind: dhcpRequest, xid: 9, mac: mac, want: netip.MustParseAddr("10.0.0.2"), server: netip.MustParseAddr("10.0.0.1")}.encode()
	if len(b) != 300 || !slices.Equal(b[28:34], mac) {
		t.Errorf("%d bytes with the address % x", len(b), b[28:34])
	}
	for _, option := range [][]byte{{53, 1, 3}, {50, 4, 10, 0, 0, 2}, {54, 4, 10, 0, 0, 1}} {
		if !strings.Contains(string(b[optionsStart:]), string(option)) {
			t.Errorf("option % d is missing in % d", option, b[optionsStart:])
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(answer(7, "192.168.9.20", 53, 1, 2, 0, 54, 4, 192, 168, 9, 1, 255))
	f.Add(answer(7, "192.168.9.20", 54, 255))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if l, err := decode(packet, 7); err == nil && !l.address.Is4() {
			t.Errorf("% x gives the address %s", packet, l.address)
		}
	})
}
