package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

// Publisher sends what a device says.
type Publisher struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	device contracts.DeviceID
}

// NewPublisher makes the Publisher of a device.
func NewPublisher(nc *nats.Conn, device contracts.DeviceID) (*Publisher, error) {
	js, err := JetStream(nc)
	if err != nil {
		return nil, err
	}
	return &Publisher{nc: nc, js: js, device: device}, nil
}

// State says how a Deployment stands. It returns when that is stored.
func (p *Publisher) State(ctx context.Context, s contracts.DeploymentState) error {
	data, err := contracts.Encode(s)
	if err != nil {
		return err
	}
	return p.store(ctx, contracts.BucketDeviceState, contracts.DeviceStateKey(p.device, s.Deployment), data)
}

// Info says what the device is. It returns when that is stored.
func (p *Publisher) Info(ctx context.Context, i contracts.DeviceInfo) error {
	data, err := contracts.Encode(i)
	if err != nil {
		return err
	}
	return p.store(ctx, contracts.BucketDeviceInfo, contracts.DeviceInfoKey(p.device), data)
}

// Heartbeat gives a sign of life. It is not acknowledged: the next one follows.
func (p *Publisher) Heartbeat(h contracts.HeartbeatPayload) error {
	data, err := contracts.Encode(h)
	if err != nil {
		return err
	}
	if err := p.nc.Publish(contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey(p.device)), data); err != nil {
		return fmt.Errorf("send a heartbeat of device %s: %w", p.device, err)
	}
	return nil
}

func (p *Publisher) store(ctx context.Context, bucket contracts.Bucket, key string, data []byte) error {
	if _, err := p.js.Publish(ctx, bucket.Subject(key), data); err != nil {
		return fmt.Errorf("write %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}
