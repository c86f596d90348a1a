package admission

import (
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/operator/roster"
)

const key, other = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T", "UBLJHT7M2HG3WVUJFNBLBGLK6HMFZM2UWYIQ3PZMRZLLWQTTPW6BK73B"

func device(key string, approved *bool) *roster.Device {
	return &roster.Device{ID: "till-1", Namespace: "shops", PublicKey: key, Approved: approved}
}

func deleting(d *roster.Device) *roster.Device {
	d.Deleting = true
	return d
}

func TestDecide(t *testing.T) {
	as, joining := bus.Caller{Device: "till-1", Key: key}, bus.Caller{Device: "till-1", Key: key, Joining: true}
	for name, c := range map[string]struct {
		owner    *roster.Device
		caller   bus.Caller
		crowded  bool
		may      bool
		lasts    time.Duration
		stranger bool
	}{
		"an approved device":                               {owner: device(key, new(true)), caller: as, may: true},
		"one that waits":                                   {owner: device(key, nil), caller: as},
		"one that is shut out":                             {owner: device(key, new(false)), caller: as},
		"one with another key":                             {owner: device(other, new(true)), caller: as},
		"one that has no key yet":                          {owner: device("", new(true)), caller: as},
		"one that is being deleted":                        {owner: deleting(device(key, new(true))), caller: as},
		"one that there is not":                            {caller: as},
		"who waits may wait without end":                   {owner: device(key, nil), caller: joining, may: true},
		"who is approved may ask":                          {owner: device(key, new(true)), caller: joining, may: true, lasts: toAsk},
		"a stranger may ask":                               {caller: joining, may: true, lasts: toJoin, stranger: true},
		"who is shut out is a stranger":                    {owner: device(key, new(false)), caller: joining, may: true, lasts: toJoin, stranger: true},
		"who has another key is a stranger":                {owner: device(other, new(true)), caller: joining, may: true, lasts: toJoin, stranger: true},
		"too many strangers":                               {caller: joining, crowded: true, stranger: true},
		"who waits is let in whatever strangers do":        {owner: device(key, nil), caller: joining, crowded: true, may: true},
		"an approved device is let in whatever they do":    {owner: device(key, new(true)), caller: as, crowded: true, may: true},
		"one that is being deleted is a stranger to joins": {owner: deleting(device(key, new(true))), caller: joining, may: true, lasts: toJoin, stranger: true},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			lasts, err := decide(c.owner, c.caller, func() bool { asked = true; return !c.crowded })
			if (err == nil) != c.may || lasts != c.lasts || asked != c.stranger {
				t.Errorf("%v, %v, counted as a stranger %v; want %v, %v, %v", lasts, err, asked, c.lasts, c.may, c.stranger)
			}
		})
	}
}

func TestExpelled(t *testing.T) {
	as := func(key string) bus.Caller { return bus.Caller{Device: "till-1", Key: key} }
	joining := func(key string) bus.Caller { return bus.Caller{Device: "till-1", Key: key, Joining: true} }
	for name, c := range map[string]struct {
		before, after *roster.Device
		want          []bus.Caller
	}{
		"made":                        {nil, device(key, nil), nil},
		"made without a key":          {nil, device("", nil), nil},
		"approved":                    {device(key, nil), device(key, new(true)), []bus.Caller{joining(key)}},
		"denied":                      {device(key, nil), device(key, new(false)), []bus.Caller{joining(key)}},
		"shut out":                    {device(key, new(true)), device(key, new(false)), []bus.Caller{as(key)}},
		"approval taken back":         {device(key, new(true)), device(key, nil), []bus.Caller{as(key)}},
		"deleted":                     {device(key, new(true)), nil, []bus.Caller{as(key)}},
		"being deleted":               {device(key, new(true)), deleting(device(key, new(true))), []bus.Caller{as(key)}},
		"gone when it was shut out":   {deleting(device(key, new(true))), nil, nil},
		"another key":                 {device(key, new(true)), device(other, new(true)), []bus.Caller{as(key)}},
		"the key taken out":           {device(key, new(true)), device("", new(true)), []bus.Caller{as(key)}},
		"deleted while it waits":      {device(key, nil), nil, []bus.Caller{joining(key)}},
		"other labels":                {device(key, new(true)), device(key, new(true)), nil},
		"another namespace, same key": {device(key, new(true)), &roster.Device{ID: "till-1", Namespace: "homes", PublicKey: key, Approved: new(true)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := expelled(c.before, c.after); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
