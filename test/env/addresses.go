package env

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// addresses are where the ports of the devices of one fleet are: a loopback
// address for each device, and the ports that are free on all of them.
type addresses struct {
	// block is the third byte of the addresses.
	block int
	// Hello and Signage are where these Deployments answer on each device, Spare is
	// for a test to take.
	Hello, Signage, Spare int

	held net.Listener
}

// How many fleets may run on one machine, and which ports they try: the usual ones
// first, others where a machine has something on all of its addresses.
const (
	blocks              = 64
	firstPort, portStep = 8080, 100
	portChoices         = 20
	firstHost           = 11
)

// reserve finds a block of addresses that no other fleet has, with ports that
// nobody listens on. It is this fleet's until release, or the end of the process.
func reserve(devices int) (*addresses, error) {
	var taken error
	for choice := range portChoices {
		for block := range blocks {
			hello := firstPort + choice*portStep
			a := &addresses{block: block, Hello: hello, Signage: hello + 1, Spare: hello + 10}
			// An abstract socket: the kernel gives the name to one process, and takes it
			// back when that ends. Nothing is left on disk.
			held, err := net.Listen("unix", fmt.Sprintf("@fleet-env-%d", block))
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reserve addresses for the devices: %w", err)
			}
			a.held = held
			err = a.free(devices)
			if err == nil {
				return a, nil
			}
			a.release()
			if taken == nil {
				taken = err
			}
		}
	}
	if taken == nil {
		return nil, fmt.Errorf("%d fleets run on this machine already", blocks)
	}
	return nil, fmt.Errorf("no loopback address has free ports for the devices; the first that was tried: %w", taken)
}

func (a *addresses) release() { _ = a.held.Close() }

// host is the address of the n-th device, from 0.
func (a *addresses) host(n int) string { return fmt.Sprintf("127.0.%d.%d", a.block, firstHost+n) }

// free returns an error that names the first port on which something listens.
func (a *addresses) free(devices int) error {
	for n := range devices {
		for _, port := range []int{a.Hello, a.Signage, a.Spare} {
			l, err := net.Listen("tcp", net.JoinHostPort(a.host(n), strconv.Itoa(port)))
			if err != nil {
				return fmt.Errorf("port %d of device %d: %w", port, n+1, err)
			}
			l.Close()
		}
	}
	return nil
}
