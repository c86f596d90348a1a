package contracts

import (
	"fmt"
	"strings"
)

// Bucket is a JetStream key-value bucket.
type Bucket string

// The buckets. The operator alone writes BucketDesiredState; a device writes only
// its own keys in the others.
const (
	BucketDesiredState    Bucket = "desired-state"
	BucketDeviceInfo      Bucket = "device-info"
	BucketDeviceState     Bucket = "device-state"
	BucketDeviceHeartbeat Bucket = "device-heartbeat"
)

// Subjects outside the buckets.
const (
	// DesiredStatePrefix is what the stream of desired state republishes stored
	// writes to: fleet.ds.<device>.<deployment>.
	DesiredStatePrefix = "fleet.ds"
	// SnapshotPrefix is what a device asks for its snapshot: fleet.snap.<device>.
	SnapshotPrefix = "fleet.snap"
	// JoinPrefix is where a device that has not joined asks: fleet.join.<public key>.
	JoinPrefix = "fleet.join"
	// CommandPrefix is what a device is commanded by:
	// device-commands.<device>.<verb>.
	CommandPrefix = "device-commands"
)

// MaxDeploymentName is the longest name of a Deployment, so that a revision,
// which has a hash behind it, is still a DNS label.
const MaxDeploymentName = 52

// DeviceID is the name of a device, unique in its fleet.
type DeviceID string

// DeploymentName is the name of a Deployment within the namespace of its device.
type DeploymentName string

// isDNSLabel reports whether s is one of at most limit characters. A regular expression
// says the same and takes a hundred times as long, for each heartbeat of a fleet.
func isDNSLabel(s string, limit int) bool {
	if len(s) == 0 || len(s) > limit || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ParseDeviceID accepts a DNS label.
func ParseDeviceID(s string) (DeviceID, error) {
	if !isDNSLabel(s, 63) {
		return "", fmt.Errorf("device ID %q is not a DNS label (lower-case letters, digits and '-', at most 63 characters, no dots)", clip(s))
	}
	return DeviceID(s), nil
}

// ParseDeploymentName accepts a DNS label of at most MaxDeploymentName characters.
func ParseDeploymentName(s string) (DeploymentName, error) {
	if !isDNSLabel(s, MaxDeploymentName) {
		return "", fmt.Errorf("deployment name %q is not a DNS label of at most %d characters", clip(s), MaxDeploymentName)
	}
	return DeploymentName(s), nil
}

// Stream is the name of the JetStream stream behind a bucket, as JetStream names
// it (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md).
func (b Bucket) Stream() string { return "KV_" + string(b) }

// Subject is the subject that a key of the bucket is written to.
func (b Bucket) Subject(key string) string { return "$KV." + string(b) + "." + key }

// KeyOf is the key that a subject of the bucket writes, or false for a subject
// of another.
func (b Bucket) KeyOf(subject string) (string, bool) {
	return strings.CutPrefix(subject, "$KV."+string(b)+".")
}

// DesiredStateKey is <device>.<deployment>.
func DesiredStateKey(d DeviceID, n DeploymentName) string { return string(d) + "." + string(n) }

// DeviceInfoKey is info.<device>.
func DeviceInfoKey(d DeviceID) string { return "info." + string(d) }

// DeviceStateKey is state.<device>.<deployment>.
func DeviceStateKey(d DeviceID, n DeploymentName) string {
	return "state." + string(d) + "." + string(n)
}

// HeartbeatKey is heartbeat.<device>.
func HeartbeatKey(d DeviceID) string { return "heartbeat." + string(d) }

// DesiredStateSubject is the republished subject of one device's deployment.
func DesiredStateSubject(d DeviceID, n DeploymentName) string {
	return DesiredStatePrefix + "." + DesiredStateKey(d, n)
}

// SnapshotSubject is where a device asks for its snapshot.
func SnapshotSubject(d DeviceID) string { return SnapshotPrefix + "." + string(d) }

// JoinSubject is where a device with a public key asks to join, and how it stands.
func JoinSubject(publicKey string) string { return JoinPrefix + "." + publicKey }

// CommandSubject is where a device listens for a verb.
func CommandSubject(d DeviceID, verb Verb) string {
	return CommandPrefix + "." + string(d) + "." + string(verb)
}

// ParseDesiredStateKey takes <device>.<deployment> apart. Where only the deployment
// is malformed, the device is returned with the error: somebody has to be told.
func ParseDesiredStateKey(key string) (DeviceID, DeploymentName, error) {
	return parsePair(BucketDesiredState, key, key)
}

// ParseDeviceStateKey takes state.<device>.<deployment> apart, and returns the device
// as ParseDesiredStateKey does.
func ParseDeviceStateKey(key string) (DeviceID, DeploymentName, error) {
	rest, ok := strings.CutPrefix(key, "state.")
	if !ok {
		return "", "", fmt.Errorf("key %q of bucket %s does not begin with %q", clip(key), BucketDeviceState, "state.")
	}
	return parsePair(BucketDeviceState, key, rest)
}

// ParseDeviceInfoKey takes info.<device> apart.
func ParseDeviceInfoKey(key string) (DeviceID, error) {
	return parseSingle(BucketDeviceInfo, key, "info.")
}

// ParseHeartbeatKey takes heartbeat.<device> apart.
func ParseHeartbeatKey(key string) (DeviceID, error) {
	return parseSingle(BucketDeviceHeartbeat, key, "heartbeat.")
}

func parseSingle(b Bucket, key, prefix string) (DeviceID, error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return "", fmt.Errorf("key %q of bucket %s does not begin with %q", clip(key), b, prefix)
	}
	id, err := ParseDeviceID(rest)
	if err != nil {
		return "", fmt.Errorf("key %q of bucket %s: %w", clip(key), b, err)
	}
	return id, nil
}

func parsePair(b Bucket, key, pair string) (DeviceID, DeploymentName, error) {
	device, deployment, ok := strings.Cut(pair, ".")
	id, err := ParseDeviceID(device)
	if err != nil {
		return "", "", fmt.Errorf("key %q of bucket %s: %w", clip(key), b, err)
	}
	if !ok {
		return id, "", fmt.Errorf("key %q of bucket %s has no deployment", clip(key), b)
	}
	name, err := ParseDeploymentName(deployment)
	if err != nil {
		return id, "", fmt.Errorf("key %q of bucket %s: %w", clip(key), b, err)
	}
	return id, name, nil
}

// clip keeps hostile input from filling a log.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
