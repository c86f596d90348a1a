package libvirt

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
)

// MAC is the address of a network card. It is one that a card can have: ParseMAC refuses
// the others.
type MAC [6]byte

// qemuPrefix is what QEMU's cards begin with, as libvirt's own do.
var qemuPrefix = [3]byte{0x52, 0x54, 0x00}

// ParseMAC reads 52:54:00:ab:cd:ef.
func ParseMAC(s string) (MAC, error) {
	parsed, err := net.ParseMAC(s)
	if err != nil || len(parsed) != len(MAC{}) {
		return MAC{}, fmt.Errorf("MAC address %q: want six bytes, as in 52:54:00:ab:cd:ef", s)
	}
	m := MAC(parsed)
	switch {
	case m == MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return MAC{}, fmt.Errorf("MAC address %q is the broadcast address: a machine needs one of its own", s)
	case m[0]&1 == 1:
		return MAC{}, fmt.Errorf("MAC address %q is a multicast address: its first byte has to be even", s)
	case m == MAC{}:
		return MAC{}, fmt.Errorf("MAC address %q is all zero: a machine needs one of its own", s)
	}
	return m, nil
}

// MustMAC is ParseMAC for constants: it panics.
func MustMAC(s string) MAC {
	m, err := ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// MACFor is an address that follows from the parts: the same parts, the same address. A
// machine that is made anew keeps its lease so. Among a thousand machines on one network
// two get the same with a chance of 3 %; among a hundred, of 0.03 %.
func MACFor(parts ...string) MAC {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return MAC{qemuPrefix[0], qemuPrefix[1], qemuPrefix[2], sum[0], sum[1], sum[2]}
}

// String is the form that ParseMAC reads and libvirt writes; empty for no address.
func (m MAC) String() string {
	if m == (MAC{}) {
		return ""
	}
	return net.HardwareAddr(m[:]).String()
}

// MarshalText makes JSON, YAML and XML write it as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
