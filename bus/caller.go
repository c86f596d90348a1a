package bus

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// Caller is a device that connects, or that somebody says is one.
type Caller struct {
	// Device is what it says it is, Key its public NKey.
	Device contracts.DeviceID
	Key    string
	// Joining tells that it wants to ask how it stands, or to be taken into the fleet,
	// and nothing else.
	Joining bool
}

// What a caller is, in the token that it connects with and in the name that the server
// lists its connection under.
const (
	roleDevice  = "device"
	roleJoining = "joining"
)

func (c Caller) role() string {
	if c.Joining {
		return roleJoining
	}
	return roleDevice
}

// token is what the server passes on to who decides. It is no secret: the key decides.
func (c Caller) token() string { return c.role() + "." + string(c.Device) }

// name is what the server lists a connection under, and the Expeller finds it by.
func (c Caller) name() string { return c.token() + "." + c.Key }

// inboxPrefix is where replies go. A device that is joining has not got its ID yet.
func (c Caller) inboxPrefix() string {
	if c.Joining {
		return "_INBOX_" + c.Key
	}
	return "_INBOX_" + string(c.Device)
}

// permissions are what the caller may do when it is let in.
func (c Caller) permissions() Permissions {
	if c.Joining {
		return Permissions{Publish: []string{contracts.JoinSubject(c.Key)}, Subscribe: []string{c.inboxPrefix() + ".>"}}
	}
	return DevicePermissions(c.Device)
}

// parseCaller reads a token, and the key that goes with it.
func parseCaller(token, key string) (Caller, error) {
	role, id, ok := strings.Cut(token, ".")
	if !ok || role != roleDevice && role != roleJoining {
		return Caller{}, errors.New("it does not say as which device it connects")
	}
	device, err := contracts.ParseDeviceID(id)
	if err != nil {
		return Caller{}, fmt.Errorf("it says as which device it connects: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(key) {
		return Caller{}, fmt.Errorf("the key of device %s is not the public NKey of a user (it begins with U)", device)
	}
	return Caller{Device: device, Key: key, Joining: role == roleJoining}, nil
}

// parseName reads the name of a connection.
func parseName(name string) (Caller, error) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return Caller{}, errors.New("the connection is not a device's")
	}
	return parseCaller(name[:i], name[i+1:])
}
