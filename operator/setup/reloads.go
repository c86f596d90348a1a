package setup

import (
	"time"

	"github.com/nationtech/fleet/bus"
)

// tries bounds how often a server is told to read the same again: each time its devices
// have to connect anew.
const tries = 3

// reloads decides which NATS server reads what it runs with again, and when. A server's
// files change some time after the Secret, and nothing tells when, so it is told to after
// patience, and again after twice and then four times that if it was too early.
type reloads struct {
	patience time.Duration

	want  bus.Server
	since time.Time
	told  map[string]int
}

// step is what to do: which server to tell, when to look again, and which server's name to
// complain of.
type step struct {
	reload *bus.Server
	again  time.Time
	give   string
}

// next decides for the servers as they are. One at a time is told, so that the devices of
// a cluster do not all connect anew at once.
func (r *reloads) next(servers []bus.Server, want bus.Server, now time.Time) step {
	if !r.want.CertificateUntil.Equal(want.CertificateUntil) || r.want.Config != want.Config || r.told == nil {
		r.want, r.since, r.told = want, now, map[string]int{}
	}
	for _, v := range servers {
		if !behind(v, want) {
			continue
		}
		told := r.told[v.ID]
		if told > tries {
			continue
		}
		due := r.since.Add(r.patience * time.Duration(1<<(told+1)-1))
		if told == tries && !now.Before(due) {
			r.told[v.ID]++
			return step{give: v.Name, again: now.Add(r.patience)}
		}
		if now.Before(due) {
			return step{again: due}
		}
		r.told[v.ID]++
		return step{reload: &v, again: now.Add(r.patience / 8)}
	}
	return step{}
}

// behind reports whether a server runs with something else than what it was given. One
// whose configuration is not ours has its certificate from elsewhere too.
func behind(v, want bus.Server) bool {
	if v.Config == "" || want.Config == "" {
		return false
	}
	return v.Config != want.Config || !want.CertificateUntil.IsZero() && !v.CertificateUntil.Equal(want.CertificateUntil)
}
