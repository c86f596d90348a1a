package vm

import (
	"strings"
	"testing"

	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/libvirt"
)

func TestHowAMachineIsRun(t *testing.T) {
	works, fails := true, false
	amd := libvirt.Host{Arch: libvirt.X86_64}
	for name, tt := range map[string]struct {
		spec  Spec
		kvm   bool
		tried *bool
		want  how
	}{
		"KVM that libvirt claims is tried":          {Spec{Arch: libvirt.X86_64}, true, nil, how{trial: true}},
		"KVM that has booted one is taken":          {Spec{Arch: libvirt.X86_64}, true, &works, how{}},
		"KVM that has not is not tried again":       {Spec{Arch: libvirt.X86_64}, true, &fails, how{emulated: true}},
		"without KVM it is emulated":                {Spec{Arch: libvirt.X86_64}, false, &works, how{emulated: true}},
		"another architecture is emulated":          {Spec{Arch: libvirt.AArch64}, true, &works, how{emulated: true}},
		"what a person asks for is what is done":    {Spec{Arch: libvirt.X86_64, Emulate: true}, true, &works, how{emulated: true}},
		"KVM for another architecture says nothing": {Spec{Arch: libvirt.AArch64}, true, nil, how{emulated: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(tt.spec, amd, libvirt.Guest{Arch: tt.spec.Arch, KVM: tt.kvm}, tt.tried)
			if got.emulated && got.why == "" {
				t.Error("it is emulated, and nobody is told why")
			}
			got.why = ""
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSignsOfLife(t *testing.T) {
	for name, tt := range map[string]struct {
		console string
		want    bool
	}{
		"nothing":                      {"", false},
		"a firmware":                   {"SeaBIOS (version 1.16.2)\r\nBooting from Hard Disk...\r\n", false},
		"a boot loader":                {"GRUB loading.\r\nWelcome to GRUB!\r\n", false},
		"a kernel that stands still":   {"[    0.000000] Linux version 6.1.0\r\n[    0.004000] tsc: Fast TSC calibration failed\r\n", false},
		"a kernel whose clock goes on": {"[    0.9]\r\n[    1.204211] virtio_blk virtio1: [vda] 20971520 512-byte logical blocks\r\n", true},
		"systemd":                      {"[  OK  ] x\r\nsystemd[1]: Hostname set to <till-7>.\r\n", true},
		"a prompt":                     {"Debian GNU/Linux 12 till-7 ttyS0\r\n\r\ntill-7 login: ", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := alive([]byte(tt.console)); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			w := &watcher{alive: make(chan struct{})}
			for _, b := range []byte(tt.console) {
				w.Write([]byte{b})
			}
			select {
			case <-w.alive:
				if !tt.want {
					t.Error("byte by byte there is life")
				}
			default:
				if tt.want {
					t.Error("byte by byte there is none")
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	good := Spec{Name: "till-7", CPUs: 1, MemoryBytes: 1 << 30, Image: cloudimage.Disk{Capacity: 2 << 30}}
	for name, tt := range map[string]struct {
		change func(*Spec)
		want   []string
	}{
		"the image's size": {func(*Spec) {}, nil},
		"a larger disk":    {func(s *Spec) { s.DiskBytes = 3 << 30 }, nil},
		"a smaller disk":   {func(s *Spec) { s.DiskBytes = 1 << 30 }, []string{"1.0 GiB is smaller than its image, which has 2.0 GiB"}},
		"all at once": {func(s *Spec) { s.Name, s.CPUs, s.MemoryBytes = "Till.7", 0, 1 }, []string{
			"device ID", "0 processors", "1 B of memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			tt.change(&s)
			err := s.Check()
			if tt.want == nil && err != nil {
				t.Error(err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}

func TestAMachineThatIsMadeAgainHasItsOldAddress(t *testing.T) {
	first, again, other := MAC("a"), MAC("a"), MAC("b")
	if first != again || first == other {
		t.Errorf("%s, %s; another %s", first, again, other)
	}
}

func TestWhoseAMachineIs(t *testing.T) {
	for name, tt := range map[string]struct {
		status libvirt.MachineStatus
		want   bool
	}{
		"one of vm create":          {libvirt.MachineStatus{Owner: owner("a"), Next: owner("a")}, true},
		"one of a Deployment":       {libvirt.MachineStatus{Owner: libvirt.Owner{Device: "a", Deployment: "d", Name: "vm"}}, false},
		"one that a person made":    {libvirt.MachineStatus{}, false},
		"another thing of a device": {libvirt.MachineStatus{Next: libvirt.Owner{Device: "a", Name: "web"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isOurs(tt.status); got != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}
