package join

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/roster"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const key, other, secret = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T", "UBLJHT7M2HG3WVUJFNBLBGLK6HMFZM2UWYIQ3PZMRZLLWQTTPW6BK73B", "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	token := contracts.JoinToken{Namespace: "shops", ID: "x", Secret: secret}
	type world struct {
		kept  *jointoken.Token
		owner *roster.Device
		claim contracts.JoinClaim
		taken int
	}
	device := func(namespace, key string, approved *bool) *roster.Device {
		return &roster.Device{ID: "till-1", Namespace: namespace, PublicKey: key, Approved: approved}
	}
	for name, c := range map[string]struct {
		change func(*world)
		action action
		reason contracts.JoinReason
		says   string
	}{
		"a new device is made":                            {func(*world) {}, create, "", ""},
		"one that Git has without a key gets the key":     {func(w *world) { w.owner = device("shops", "", nil) }, pin, "", ""},
		"one that has joined may join again":              {func(w *world) { w.owner = device("shops", key, new(true)) }, agree, "", ""},
		"also when the token is used up":                  {func(w *world) { w.owner = device("shops", key, nil); w.kept.Uses, w.kept.Used = 1, 1 }, agree, "", ""},
		"also when the token has expired":                 {func(w *world) { w.owner = device("shops", key, nil); w.kept.Expires = now.Add(-time.Hour) }, agree, "", ""},
		"the last use":                                    {func(w *world) { w.kept.Uses, w.kept.Used = 3, 2 }, create, "", ""},
		"any number of uses":                              {func(w *world) { w.kept.Uses, w.kept.Used = 0, 1000 }, create, "", ""},
		"a token that there is not":                       {func(w *world) { w.kept = nil }, refuse, contracts.JoinUnknownToken, "revoked"},
		"another secret":                                  {func(w *world) { w.kept.Hash = jointoken.HashOf("another") }, refuse, contracts.JoinUnknownToken, "revoked"},
		"another secret does not learn that the ID taken": {func(w *world) { w.kept.Hash = jointoken.HashOf("another"); w.owner = device("homes", other, nil) }, refuse, contracts.JoinUnknownToken, "revoked"},
		"expired this moment":                             {func(w *world) { w.kept.Expires = now }, refuse, contracts.JoinTokenExpired, "2026-01-02T03:04:05Z"},
		"used up":                                         {func(w *world) { w.kept.Uses, w.kept.Used = 3, 3 }, refuse, contracts.JoinTokenUsedUp, "3 devices"},
		"used up by those who ask at the same time":       {func(w *world) { w.kept.Uses, w.kept.Used, w.taken = 3, 1, 2 }, refuse, contracts.JoinTokenUsedUp, "3 devices"},
		"the ID is another namespace's":                   {func(w *world) { w.owner = device("homes", other, nil) }, refuse, contracts.JoinIDTaken, "--device"},
		"even with the same key":                          {func(w *world) { w.owner = device("homes", key, nil) }, refuse, contracts.JoinIDTaken, "--device"},
		"a device that was set up anew":                   {func(w *world) { w.owner = device("shops", other, new(true)) }, refuse, contracts.JoinKeyMismatch, "kubectl fleet device reset-key till-1 -n shops"},
		"one that is shut out":                            {func(w *world) { w.owner = device("shops", key, new(false)) }, refuse, contracts.JoinShutOut, "spec.approved"},
		"one that is shut out and has no key":             {func(w *world) { w.owner = device("shops", "", new(false)) }, refuse, contracts.JoinShutOut, "spec.approved"},
		"one that is being deleted":                       {func(w *world) { w.owner = device("shops", key, nil); w.owner.Deleting = true }, refuse, contracts.JoinUnavailable, "deleted"},
		"a clock that is slow":                            {func(w *world) { w.claim.Time = now.Add(-6 * time.Minute) }, refuse, contracts.JoinClockOff, "2026-01-02T02:58:05Z"},
		"a clock that is fast":                            {func(w *world) { w.claim.Time = now.Add(6 * time.Minute) }, refuse, contracts.JoinClockOff, "2026-01-02T03:10:05Z"},
		"a clock that is nearly right":                    {func(w *world) { w.claim.Time = now.Add(4 * time.Minute) }, create, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{
				kept:  &jointoken.Token{Namespace: "shops", ID: "x", Hash: jointoken.HashOf(secret), Expires: now.Add(time.Hour)},
				claim: contracts.JoinClaim{Device: "till-1", PublicKey: key, Time: now},
			}
			c.change(&w)
			got := judge(w.claim, token, w.kept, w.taken, w.owner, now)
			if got.action != c.action || got.reason != c.reason || !strings.Contains(got.message, c.says) {
				t.Errorf("got %d %s %q, want %d %s with %q", got.action, got.reason, got.message, c.action, c.reason, c.says)
			}
		})
	}
}
