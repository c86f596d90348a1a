package dirs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adrg/xdg"
)

func TestHarmonysDirectoryHoldsEverything(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Variable, dir)
	d, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		find func() (string, error)
		want string
		mode os.FileMode
	}{
		"data":                    {d.Data, "fleet", 0o755},
		"cache":                   {d.Cache, "fleet/cache", 0o755},
		"cloud images":            {d.CloudImages, "fleet/cloud-images", 0o755},
		"secrets are the owner's": {d.Secrets, "fleet/secrets", 0o700},
		"keys are the owner's":    {d.Keys, "fleet/ssh", 0o700},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.find()
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(dir, tt.want); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			info, err := os.Stat(got)
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm() &^ tt.mode; mode != 0 {
				t.Errorf("others may do %v more than %v", mode, tt.mode)
			}
		})
	}
	if want := filepath.Join(dir, "fleet/pools/p"); d.Pool("p") != want {
		t.Errorf("the pool is %s, want %s", d.Pool("p"), want)
	}
}

func TestWithoutHarmonysDirectoryXDGDecides(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Variable, "")
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	d, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for want, find := range map[string]func() (string, error){
		"data/harmony/fleet": d.Data, "data/harmony/fleet/ssh": d.Keys, "cache/harmony/fleet/cloud-images": d.CloudImages,
	} {
		if got, err := find(); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	if d.Pool("p") != "" {
		t.Errorf("the pool is below a home: %s", d.Pool("p"))
	}
}

func TestARelativeDirectoryIsRefused(t *testing.T) {
	t.Setenv(Variable, "data")
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), Variable) || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("%v", err)
	}
}

func TestKeysThatOthersCouldReadAreTakenFromThem(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "fleet", "ssh")
	if err := os.MkdirAll(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := At(dir).Keys(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(open)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("mode %v", mode)
	}
}
