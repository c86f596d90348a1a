package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleet/contracts"
)

// hostile is a connection of somebody who does what no agent does.
type hostile struct {
	*nats.Conn
	w *world

	mu sync.Mutex
	// denied counts what the server refused, by what it said; heard is what arrived, by
	// the subscription's subject.
	denied map[string]int
	heard  map[string][]*nats.Msg
}

func (h *hostile) complain(_ *nats.Conn, _ *nats.Subscription, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denied[strings.ToLower(err.Error())]++
}

// listen subscribes to something and keeps what arrives.
func (h *hostile) listen(subject, queue string) {
	h.w.Helper()
	hear := func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heard[subject] = append(h.heard[subject], m)
	}
	var err error
	if queue == "" {
		_, err = h.Subscribe(subject, hear)
	} else {
		_, err = h.QueueSubscribe(subject, queue, hear)
	}
	if err != nil {
		h.w.Errorf("subscribe to %s: %v", subject, err)
	}
}

// send publishes; the server may refuse it.
func (h *hostile) send(m *nats.Msg) {
	h.w.Helper()
	if err := h.PublishMsg(m); err != nil {
		h.w.Errorf("publish to %s: %v", m.Subject, err)
	}
}

func (h *hostile) messages(subject string) []*nats.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.heard[subject])
}

// refused waits until the server has refused each of the subjects: to publish, or to
// subscribe.
func (h *hostile) refused(verb string, subjects []string) {
	h.w.Helper()
	must(h.w.T, h.Flush())
	h.w.until("each is refused", func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, subject := range subjects {
			// The server names the queue group as well.
			want := fmt.Sprintf("permissions violation for %s to %q", verb, strings.ToLower(subject))
			if !slices.ContainsFunc(slices.Collect(maps.Keys(h.denied)), func(said string) bool { return strings.Contains(said, want) }) {
				return fmt.Errorf("%s of %s was not refused; there were %v", verb, subject, slices.Sorted(maps.Keys(h.denied)))
			}
		}
		return nil
	})
}

// forged are values that would count if somebody else's key took them.
func forged(id string) map[contracts.Bucket][]byte {
	return map[contracts.Bucket][]byte{
		contracts.BucketDeviceState:     encode(contracts.DeploymentState{Deployment: app, Revision: "app-1", Digest: "0123456789abcdef", Phase: contracts.PhaseFailed, Reason: "Forged"}),
		contracts.BucketDeviceInfo:      encode(contracts.DeviceInfo{Device: contracts.DeviceID(id), Hostname: "forged"}),
		contracts.BucketDeviceHeartbeat: encode(contracts.HeartbeatPayload{Seq: 1 << 31, Interval: 600}),
	}
}

func encode[T contracts.Value](v T) []byte {
	data, err := contracts.Encode(v)
	if err != nil {
		panic(err)
	}
	return data
}

// unchecked encodes what an agent would not send.
func unchecked(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// keyOf is the subject of a device's key in one of the buckets that devices write.
func keyOf(bucket contracts.Bucket, id, deployment string) string {
	d := contracts.DeviceID(id)
	switch bucket {
	case contracts.BucketDeviceState:
		return bucket.Subject(contracts.DeviceStateKey(d, contracts.DeploymentName(deployment)))
	case contracts.BucketDeviceInfo:
		return bucket.Subject(contracts.DeviceInfoKey(d))
	}
	return bucket.Subject(contracts.HeartbeatKey(d))
}
