package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleet/contracts"
)

// heartbeatMaxAge is after how long the server forgets a heartbeat: well above
// three times the longest interval between two.
const heartbeatMaxAge = time.Hour

// headerRoom is what the headers of a message may need on top of its value, bytes.
const headerRoom = 1 << 10

// maxConsumers bounds the consumers of one stream: one for each bucket and
// operator replica, and room for people who look.
const maxConsumers = 64

// StateBytes is how much all reports of all devices may take unless an installation
// says otherwise: more than a million of them.
const StateBytes = 1 << 30

// smallState is less than any report takes, subject and server's own share included.
const smallState = 256

// StreamOptions are what an installation chooses.
type StreamOptions struct {
	// Replicas of each stream; 0 is 1.
	Replicas int
	// StateBytes is how much the reports of the devices may take together on the disk
	// of each replica; 0 is 1 GiB.
	StateBytes int64
}

// EnsureStreams creates the streams behind the buckets, or brings existing ones to
// these settings. Each setting is given and none left to what a stock bucket has:
// a stock bucket allows roll-up, with which a device that may write one key purges
// everybody's.
//
// There are no limit markers on heartbeats: the server turns roll-up on for them.
// The operator's own timer knows better than one age for all anyway.
func EnsureStreams(ctx context.Context, js jetstream.JetStream, o StreamOptions) error {
	for _, bucket := range []contracts.Bucket{
		contracts.BucketDesiredState, contracts.BucketDeviceState, contracts.BucketDeviceInfo, contracts.BucketDeviceHeartbeat,
	} {
		// CreateOrUpdateStream would say "not found" for a stream that is there and
		// can't be changed, and then not say why.
		config := streamConfig(bucket, o)
		_, err := js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			_, err = js.UpdateStream(ctx, config)
		}
		if err != nil {
			return fmt.Errorf("set up the stream of bucket %s: %w", bucket, err)
		}
	}
	return nil
}

func streamConfig(bucket contracts.Bucket, o StreamOptions) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              bucket.Stream(),
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          max(o.Replicas, 1),
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		MaxConsumers:      maxConsumers,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		DenyDelete:        true,
		DenyPurge:         true,
		AllowRollup:       false,
		// A direct get is answered by any replica, also by one that is behind.
		AllowDirect: false,
		// Twice the same message within the window is what a retry makes of one; the
		// streams hold the last one only, so that a retry does no harm.
		Duplicates: 0,
	}
	switch bucket {
	case contracts.BucketDesiredState:
		c.Description = "What each device is told to run"
		c.Subjects = []string{bucket.Subject("*.*")}
		c.MaxMsgSize = contracts.MaxEnvelopeSize + headerRoom
		c.RePublish = &jetstream.RePublish{
			Source:      bucket.Subject("*.*"),
			Destination: contracts.DesiredStatePrefix + ".{{wildcard(1)}}.{{wildcard(2)}}",
		}
	case contracts.BucketDeviceState:
		c.Description = "What each device says of each deployment"
		c.Subjects = []string{bucket.Subject("state.*.*")}
		c.MaxMsgSize = contracts.MaxDeviceStateSize + headerRoom
		// Here alone a device chooses how many keys there are, and one message of each
		// bounds nothing. The server knows no limit for one user, so this is for all: a
		// device that writes without end pushes out the oldest reports of others. The
		// other way, to refuse what is new, would let it hold up every rollout for good.
		// What is pushed out a running operator has read already, and keeps.
		c.MaxBytes = o.StateBytes
		if c.MaxBytes <= 0 {
			c.MaxBytes = StateBytes
		}
		// Keys with nothing behind them fill the server's memory before the disk.
		c.MaxMsgs = max(c.MaxBytes/smallState, 1)
	case contracts.BucketDeviceInfo:
		c.Description = "What each device says of itself"
		c.Subjects = []string{bucket.Subject("info.*")}
		c.MaxMsgSize = contracts.MaxDeviceInfoSize + headerRoom
	case contracts.BucketDeviceHeartbeat:
		c.Description = "The last sign of life of each device"
		c.Subjects = []string{bucket.Subject("heartbeat.*")}
		c.MaxMsgSize = contracts.MaxHeartbeatSize + headerRoom
		c.MaxAge = heartbeatMaxAge
	}
	return c
}
