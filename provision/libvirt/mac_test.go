package libvirt

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAMACAddressIsOneThatACardCanHave(t *testing.T) {
	for _, test := range []struct{ name, in, want, refused string }{
		{name: "libvirt's form", in: "52:54:00:ab:cd:ef", want: "52:54:00:ab:cd:ef"},
		{name: "in capitals", in: "52:54:00:AB:CD:EF", want: "52:54:00:ab:cd:ef"},
		{name: "with dashes", in: "52-54-00-ab-cd-ef", want: "52:54:00:ab:cd:ef"},
		{name: "the broadcast address", in: "ff:ff:ff:ff:ff:ff", refused: "broadcast"},
		{name: "a multicast address", in: "01:00:5e:00:00:01", refused: "multicast"},
		{name: "all zero", in: "00:00:00:00:00:00", refused: "all zero"},
		{name: "too short", in: "52:54:00:ab:cd", refused: "six bytes"},
		{name: "too long", in: "52:54:00:ab:cd:ef:01:02", refused: "six bytes"},
		{name: "no hexadecimal number", in: "52:54:00:ab:cd:eg", refused: "six bytes"},
		{name: "empty", in: "", refused: "six bytes"},
		{name: "a space", in: " 52:54:00:ab:cd:ef", refused: "six bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseMAC(test.in)
			switch {
			case test.refused == "" && err != nil:
				t.Fatal(err)
			case test.refused == "" && m.String() != test.want:
				t.Errorf("it is read as %s", m)
			case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("it is not refused as %s: %v, %v", test.refused, m, err)
			}
		})
	}
}

func TestTheSamePartsMakeTheSameMACAddress(t *testing.T) {
	one := MACFor("edge-1", "web")
	if one != MACFor("edge-1", "web") {
		t.Error("it changes")
	}
	if one == MACFor("edge-1w", "eb") || one == MACFor("edge-1", "web", "") {
		t.Error("other parts make the same address")
	}
	if again, err := ParseMAC(one.String()); err != nil || again != one {
		t.Errorf("%s is not an address: %v", one, err)
	}
	if !strings.HasPrefix(one.String(), "52:54:00:") {
		t.Errorf("%s does not begin as those of QEMU do", one)
	}
}

func TestAMACAddressInJSONIsCheckedToo(t *testing.T) {
	var holder struct{ MAC MAC }
	if err := json.Unmarshal([]byte(`{"MAC":"ff:ff:ff:ff:ff:ff"}`), &holder); err == nil {
		t.Error("the broadcast address is taken")
	}
	text := `{"MAC":"52:54:00:ab:cd:ef"}`
	if err := json.Unmarshal([]byte(text), &holder); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(holder); err != nil || string(out) != text {
		t.Errorf("it is written %s, %v", out, err)
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00ab.cdef", "ff:ff:ff:ff:ff:ff", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		if err != nil {
			return
		}
		if m[0]&1 == 1 || m == (MAC{}) {
			t.Errorf("%q is read as %s, which no card has", s, m)
		}
		if again, err := ParseMAC(m.String()); err != nil || again != m {
			t.Errorf("%q is written %q, which is read as %q: %v", s, m, again, err)
		}
	})
}
