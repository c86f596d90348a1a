package guest

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestTheBootSectorFindsTheRestOfGRUB(t *testing.T) {
	for _, tt := range []struct {
		name string
		core int
		want uint16
	}{
		{"whole sectors", 10 * sector, 9},
		{"a sector that is begun counts", 10*sector + 1, 10},
		{"the least", 2 * sector, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, core := make([]byte, sector), make([]byte, tt.core)
			if err := link(first, core, 2048); err != nil {
				t.Fatal(err)
			}
			if got := binary.LittleEndian.Uint64(first[kernelSector:]); got != 2048 {
				t.Errorf("the core begins at sector %d", got)
			}
			if got := binary.LittleEndian.Uint64(core[blockList:]); got != 2049 {
				t.Errorf("the rest of it begins at sector %d", got)
			}
			if got := binary.LittleEndian.Uint16(core[blockList+8:]); got != tt.want {
				t.Errorf("the rest of it has %d sectors, want %d", got, tt.want)
			}
		})
	}
	if err := link(make([]byte, sector), make([]byte, sector), 2048); err == nil {
		t.Error("a core image of one sector is taken")
	}
}

func TestADebianForAnotherArchitectureIsRefused(t *testing.T) {
	if _, err := Debian(t.Context(), "riscv64"); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("error %v, want one that names the architecture", err)
	}
}

func TestTheRecipeCoversEveryFileOfTheGuest(t *testing.T) {
	recipe, err := debianRecipe()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(recipe, "\n")
	for _, part := range []string{"rootfs/usr/local/sbin/fleet-registry", "rootfs/etc/cloud/cloud.cfg.d/90_fleet.cfg", Registry, "30500", "podman"} {
		if !strings.Contains(all, part) {
			t.Errorf("a change of %s would not make the image anew", part)
		}
	}
}
