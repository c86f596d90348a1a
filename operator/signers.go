package operator

import (
	"fmt"
	"sync"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
)

// readSigners returns what the operator signs with, and what it signed with before.
func readSigners(keys *bus.Keys, previousFiles []string) (*contracts.Signer, []*contracts.Signer, error) {
	signer, err := contracts.NewSigner(keys.Signer)
	if err != nil {
		return nil, nil, err
	}
	var previous []*contracts.Signer
	for _, file := range previousFiles {
		before, err := bus.ReadKeys(file)
		if err != nil {
			return nil, nil, err
		}
		p, err := contracts.NewSigner(before.Signer)
		if err != nil {
			return nil, nil, err
		}
		if p.Public() == signer.Public() {
			return nil, nil, fmt.Errorf("%s holds the seed that the operator has now: the previous one is what it had before", file)
		}
		previous = append(previous, p)
	}
	return signer, previous, nil
}

func publicKeys(signers []*contracts.Signer) (keys []string) {
	for _, s := range signers {
		keys = append(keys, s.Public())
	}
	return keys
}

// handovers returns those from each key that the operator had to the one that it has.
// Their number is above what the bus has seen, so there are none before that was read.
func handovers(signer *contracts.Signer, previous []*contracts.Signer, view *fleetview.View, inView *gate.Gate) func() []contracts.Handover {
	make := sync.OnceValue(func() (all []contracts.Handover) {
		for _, p := range previous {
			// Only a number that is none could fail.
			if h, err := p.HandOver(signer.Public(), view.NextIssued()); err == nil {
				all = append(all, h)
			}
		}
		return all
	})
	return func() []contracts.Handover {
		if !inView.IsOpen() {
			return nil
		}
		return make()
	}
}
