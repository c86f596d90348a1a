package env

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// Simulated is a device without a machine behind it.
type Simulated struct {
	*simulated.Device
	ID, PublicKey string

	seedFile, operator, caFile string
}

// Simulate adds devices without machines. It has to come before StartSimulated.
func (f *Fleet) Simulate(count int) error {
	for n := range count {
		s := &Simulated{ID: fmt.Sprintf("sim-%02d", n+1)}
		s.seedFile = filepath.Join(f.Dir, s.ID+".nk")
		key, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		seed, err := key.Seed()
		if err != nil {
			return err
		}
		if s.PublicKey, err = key.PublicKey(); err != nil {
			return err
		}
		if err := os.WriteFile(s.seedFile, seed, 0o600); err != nil {
			return err
		}
		f.Simulated = append(f.Simulated, s)
	}
	return nil
}

// StartSimulated makes an approved Device with the labels for each simulated
// device, and connects it. The namespace has to exist.
func (f *Fleet) StartSimulated(ctx context.Context, labels map[string]string, answer simulated.Answer) error {
	signer, err := f.Signer()
	if err != nil {
		return err
	}
	for _, s := range f.Simulated {
		s.operator, s.caFile = signer, f.CAFile()
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: s.ID, Labels: labels}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), s.PublicKey
		if err := f.Client.Create(ctx, d); err != nil {
			return err
		}
		if err := s.Connect(ctx, f.ControlPlane.NATS, answer); err != nil {
			return err
		}
	}
	return nil
}

// Connect brings the device online.
func (s *Simulated) Connect(ctx context.Context, url string, answer simulated.Answer) (err error) {
	s.Device, err = simulated.Start(ctx, simulated.Options{
		ID: contracts.DeviceID(s.ID), URL: url, SeedFile: s.seedFile, CAFile: s.caFile, PublicKey: s.PublicKey, Operator: s.operator, Answer: answer,
	})
	return err
}
