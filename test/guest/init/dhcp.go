package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// Kinds of messages, and options, of DHCP: RFC 2131 and RFC 2132.
const (
	dhcpDiscover, dhcpOffer, dhcpRequest, dhcpAck, dhcpNak = 1, 2, 3, 5, 6

	optionPad, optionMask, optionAddress, optionKind, optionServer, optionWanted, optionEnd = 0, 1, 50, 53, 54, 55, 255

	// optionsStart is where options begin, after the cookie.
	optionsStart = 240
	cookie       = 0x63825363
	// broadcast asks for answers to everybody: there is no address yet to answer to.
	broadcast = 0x8000
)

// request is what a client says.
type request struct {
	kind byte
	xid  uint32
	mac  net.HardwareAddr
	// want and server are of the offer that is accepted.
	want, server netip.Addr
}

func (r request) encode() []byte {
	b := make([]byte, optionsStart, 300)
	b[0], b[1], b[2] = 1, 1, 6 // a request, over Ethernet, whose addresses have 6 bytes
	binary.BigEndian.PutUint32(b[4:], r.xid)
	binary.BigEndian.PutUint16(b[10:], broadcast)
	copy(b[28:34], r.mac)
	binary.BigEndian.PutUint32(b[236:], cookie)
	b = append(b, optionKind, 1, r.kind, optionWanted, 1, optionMask)
	if r.want.Is4() {
		b = append(append(b, optionAddress, 4), r.want.AsSlice()...)
	}
	if r.server.Is4() {
		b = append(append(b, optionServer, 4), r.server.AsSlice()...)
	}
	b = append(b, optionEnd)
	return append(b, make([]byte, cap(b)-len(b))...) // some servers drop short ones
}

// lease is what a server says.
type lease struct {
	kind            byte
	address, server netip.Addr
	mask            [4]byte
}

// decode reads a server's answer to the request with the number.
func decode(b []byte, xid uint32) (lease, error) {
	if len(b) < optionsStart || b[0] != 2 || binary.BigEndian.Uint32(b[236:]) != cookie {
		return lease{}, errors.New("not an answer of DHCP")
	}
	if binary.BigEndian.Uint32(b[4:]) != xid {
		return lease{}, errors.New("an answer to another request")
	}
	l := lease{address: netip.AddrFrom4([4]byte(b[16:20])), mask: [4]byte{255, 255, 255, 0}}
	for options := b[optionsStart:]; len(options) > 0 && options[0] != optionEnd; {
		if options[0] == optionPad {
			options = options[1:]
			continue
		}
		if len(options) < 2 || len(options) < 2+int(options[1]) {
			return lease{}, errors.New("an option is cut short")
		}
		option, value := options[0], options[2:2+int(options[1])]
		options = options[2+len(value):]
		switch {
		case option == optionKind && len(value) == 1:
			l.kind = value[0]
		case option == optionServer && len(value) == 4:
			l.server = netip.AddrFrom4([4]byte(value))
		case option == optionMask && len(value) == 4:
			l.mask = [4]byte(value)
		}
	}
	return l, nil
}
