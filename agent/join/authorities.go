package join

import (
	"context"
	"fmt"
	"time"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/trust"
)

// answerWithin bounds how long to wait for the operator's word on authorities.
const answerWithin = 2 * time.Minute

// Authorities asks the operator which authorities sign the server's certificate, and
// trusts those from now on. It reports whether they have changed. The operator has to be
// the one that the device trusts.
func Authorities(ctx context.Context, o Options) (changed bool, err error) {
	publicKey, err := identity.Ensure(o.SeedFile)
	if err != nil {
		return false, err
	}
	t, err := trust.Load(o.StateDir)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	a := asker{Options: o, publicKey: publicKey, trust: t}
	s, err := a.ask(ctx, t.Options(), "")
	if err != nil {
		return false, fmt.Errorf("ask which authorities to trust: %w", err)
	}
	if s.CA == t.CA {
		return false, nil
	}
	return true, trust.Update(o.StateDir, func(t *trust.Trust) { t.CA = s.CA })
}
