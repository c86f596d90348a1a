package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// bringUp gives every interface an address.
func bringUp() {
	all, err := net.Interfaces()
	if err != nil {
		say("%v", err)
		return
	}
	for _, i := range all {
		if err := setFlags(i.Name, unix.IFF_UP); err != nil {
			say("bring up %s: %v", i.Name, err)
			continue
		}
		if i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 {
			continue
		}
		go func() {
			for {
				l, err := acquire(i)
				if err == nil {
					err = assign(i.Name, l)
				}
				if err == nil {
					say("%s has the address %s", i.Name, l.address)
					return
				}
				say("%s: %v", i.Name, err)
			}
		}()
	}
}

// patience is how long an answer is waited for before it is asked again.
const patience = time.Second

// acquire gets an address by DHCP. It is kept without asking again: a guest lives for less
// than its lease.
func acquire(i net.Interface) (lease, error) {
	s, err := newSocket(i.Name)
	if err != nil {
		return lease{}, err
	}
	defer unix.Close(s)
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return lease{}, err
	}
	xid := binary.BigEndian.Uint32(id[:])
	offer, err := exchange(s, request{kind: dhcpDiscover, xid: xid, mac: i.HardwareAddr}, dhcpOffer)
	if err != nil {
		return lease{}, err
	}
	return exchange(s, request{kind: dhcpRequest, xid: xid, mac: i.HardwareAddr, want: offer.address, server: offer.server}, dhcpAck)
}

// exchange sends a request to everybody, and waits for the answer of a kind.
func exchange(s int, r request, kind byte) (lease, error) {
	everybody := &unix.SockaddrInet4{Port: 67, Addr: [4]byte{255, 255, 255, 255}}
	if err := unix.Sendto(s, r.encode(), 0, everybody); err != nil {
		return lease{}, fmt.Errorf("ask for an address: %w", err)
	}
	deadline := time.Now().Add(patience)
	packet := make([]byte, 1500)
	for time.Now().Before(deadline) {
		n, _, err := unix.Recvfrom(s, packet, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return lease{}, fmt.Errorf("wait for an address: %w", err)
		}
		l, err := decode(packet[:n], r.xid)
		if err != nil {
			continue // somebody else's, or nobody's
		}
		if l.kind == kind {
			return l, nil
		}
		if l.kind == dhcpNak {
			return lease{}, errors.New("the address was refused")
		}
	}
	return lease{}, errors.New("no answer to the question for an address")
}

// newSocket is one for DHCP on an interface that has no address yet.
func newSocket(name string) (int, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	tick := unix.NsecToTimeval((patience / 4).Nanoseconds())
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_BROADCAST, 1) },
		func() error { return unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tick) },
		func() error { return unix.BindToDevice(s, name) },
		func() error { return unix.Bind(s, &unix.SockaddrInet4{Port: 68}) },
	} {
		if err := set(); err != nil {
			unix.Close(s)
			return 0, err
		}
	}
	return s, nil
}

// assign gives an interface its address.
func assign(name string, l lease) error {
	for _, part := range []struct {
		request uint
		value   [4]byte
	}{{unix.SIOCSIFADDR, l.address.As4()}, {unix.SIOCSIFNETMASK, l.mask}} {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(part.value[:]); err != nil {
			return err
		}
		if err := control(part.request, ifr); err != nil {
			return err
		}
	}
	return nil
}

func setFlags(name string, flags uint16) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	return control(unix.SIOCSIFFLAGS, ifr)
}

func control(request uint, ifr *unix.Ifreq) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return unix.IoctlIfreq(s, request, ifr)
}
