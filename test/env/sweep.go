package env

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/nationtech/fleet/test/podmantest"
)

// Sweep removes the containers of a fleet whose process was killed; its other
// processes died with it. The folder itself stays.
func Sweep(dir string) error {
	storages, err := filepath.Glob(filepath.Join(dir, "*", podmanFolder))
	if err != nil {
		return err
	}
	var errs []error
	for _, storage := range storages {
		podman, err := podmantest.Attach(storage)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = podman.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
