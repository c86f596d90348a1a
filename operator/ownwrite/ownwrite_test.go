package ownwrite

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestBehindUntilTheCacheHasTheWrite(t *testing.T) {
	var w Writes
	at := func(version string) *v1alpha1.Device {
		d := &v1alpha1.Device{}
		d.Namespace, d.Name, d.ResourceVersion = "shops", "till", version
		return d
	}
	behind := func(version string) bool {
		t.Helper()
		b, err := w.Behind(at(version))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if behind("5") {
		t.Error("behind a write that never was")
	}
	w.Wrote(at("10"))
	for version, want := range map[string]bool{"9": true, "5": true} {
		if got := behind(version); got != want {
			t.Errorf("version %s: %v", version, got)
		}
	}
	if behind("10") || behind("9") {
		t.Error("behind after the cache had the write")
	}
	w.Wrote(at("20"))
	w.Forget(client.ObjectKeyFromObject(at("")))
	if behind("11") {
		t.Error("behind the write of an object that is gone")
	}
	w.Wrote(at("20"))
	if _, err := w.Behind(at("x")); err == nil {
		t.Error("no error for a version that is none")
	}
}
