package libvirttest

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/nationtech/fleet/test/guest"
)

// guestTimeout is how long the guest may take to be made, the first time: a kernel is
// downloaded and a program compiled.
const guestTimeout = 10 * time.Minute

// TinyGuest is a system that boots within seconds: a kernel and what it starts. It is made
// once and kept.
func TinyGuest(t testing.TB) (kernel, initrd string) {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no tiny guest: it is made of Debian's kernel, and there is no apt-get here")
	}
	ctx, cancel := context.WithTimeout(context.Background(), guestTimeout)
	defer cancel()
	kernel, initrd, err := guest.Tiny(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return kernel, initrd
}
