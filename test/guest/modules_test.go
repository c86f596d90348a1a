package guest

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestModulesAreLoadedAfterWhatTheyNeed(t *testing.T) {
	tree := func(needs map[string][]string) moduleTree {
		files := map[string]string{}
		for name := range needs {
			files[name] = "lib/" + name + ".ko"
		}
		return moduleTree{files: files, builtin: map[string]bool{"virtio": true}, needs: func(file string) ([]string, error) {
			if n, ok := needs[moduleName(file)]; ok && n != nil && n[0] == "!" {
				return nil, errors.New("torn")
			}
			return needs[moduleName(file)], nil
		}}
	}
	for _, tt := range []struct {
		name   string
		needs  map[string][]string
		wanted []string
		want   []string
		err    string
	}{
		{name: "one that needs nothing", needs: map[string][]string{"a": nil}, wanted: []string{"a"}, want: []string{"a"}},
		{name: "needed ones come first, each once", needs: map[string][]string{"net": {"failover", "bus"}, "failover": {"bus"}, "bus": nil}, wanted: []string{"net", "bus"}, want: []string{"bus", "failover", "net"}},
		{name: "part of the kernel", needs: map[string][]string{"a": {"virtio"}}, wanted: []string{"virtio", "a"}, want: []string{"a"}},
		{name: "a hyphen is an underscore", needs: map[string][]string{"a_b": nil, "c": {"a-b"}}, wanted: []string{"a-b", "c"}, want: []string{"a_b", "c"}},
		{name: "one that is missing is named with who needs it", needs: map[string][]string{"a": {"gone"}}, wanted: []string{"a"}, err: "needed by a: the kernel has no module gone"},
		{name: "one that can't be read is named", needs: map[string][]string{"a": {"!"}}, wanted: []string{"a"}, err: "module a: torn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files, err := tree(tt.needs).order(tt.wanted...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, file := range files {
				got = append(got, moduleName(file))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("order %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAModuleSaysWhatItNeeds(t *testing.T) {
	for modinfo, want := range map[string][]string{
		"license=GPL\x00depends=net_failover,failover\x00name=virtio_net\x00": {"net_failover", "failover"},
		"license=GPL\x00depends=\x00":                                         nil,
		"":                                                                    nil,
	} {
		if got := parseDepends([]byte(modinfo)); !slices.Equal(got, want) {
			t.Errorf("%q needs %v, want %v", modinfo, got, want)
		}
	}
}
