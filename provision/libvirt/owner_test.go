package libvirt

import (
	"encoding/xml"
	"strings"
	"testing"
)

const ownedDomain = `<domain type='kvm' id='3'>
  <name>web</name>
  <metadata>
    <other xmlns="https://example.com/other" device="x"><owner device="not this one"/></other>
    <fleet:owner xmlns:fleet="https://fleet.nationtech.io/xmlns/owner" device="edge-1" deployment="shop" name="web" hash="h1"/>
  </metadata>
</domain>`

func TestWhoseAMachineIsStandsInItsMetadata(t *testing.T) {
	mine := Owner{Device: "edge-1", Deployment: "shop", Name: "web", Hash: "h1"}
	for _, test := range []struct {
		name, domain string
		want         Owner
		refused      bool
	}{
		{"as libvirt writes it", ownedDomain, mine, false},
		{"without metadata", "<domain><name>web</name></domain>", Owner{}, false},
		{"in another namespace", strings.ReplaceAll(ownedDomain, "nationtech.io", "example.com"), Owner{}, false},
		{"in another place of the definition", strings.ReplaceAll(ownedDomain, "metadata>", "description>"), Owner{}, false},
		{"deeper in the metadata", strings.ReplaceAll(strings.ReplaceAll(ownedDomain, "<metadata>", "<metadata><x>"), "</metadata>", "</x></metadata>"), Owner{}, false},
		{"of a network", strings.ReplaceAll(ownedDomain, "domain", "network"), Owner{}, false},
		{"twice", strings.ReplaceAll(ownedDomain, "</metadata>", `<owner xmlns="https://fleet.nationtech.io/xmlns/owner" device="edge-2"/></metadata>`), Owner{}, false},
		{"cut off", ownedDomain[:len(ownedDomain)-20], Owner{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ownerOf([]byte(test.domain))
			if (err != nil) != test.refused {
				t.Fatalf("error %v", err)
			}
			if got != test.want {
				t.Errorf("its owner is %+v", got)
			}
		})
	}
}

func TestAnOwnerIsReadAsItWasWritten(t *testing.T) {
	o := Owner{Device: `ed"ge<1>`, Deployment: "s&op", Name: "wéb", Hash: "h\n1"}
	text, err := xml.Marshal(struct {
		XMLName  xml.Name `xml:"domain"`
		Metadata metadataXML
	}{Metadata: metadataXML{ownerXML{Owner: o}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ownerOf([]byte(strings.ReplaceAll(string(text), "Metadata>", "metadata>")))
	if err != nil || got != o {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnotherVersionIsTheSameOwner(t *testing.T) {
	o := Owner{Device: "edge-1", Deployment: "shop", Name: "web", Hash: "h1"}
	for _, test := range []struct {
		name  string
		other Owner
		same  bool
	}{
		{"another version", Owner{"edge-1", "shop", "web", "h2"}, true},
		{"another device", Owner{"edge-2", "shop", "web", "h1"}, false},
		{"another deployment", Owner{"edge-1", "shop2", "web", "h1"}, false},
		{"another name", Owner{"edge-1", "shop", "db", "h1"}, false},
		{"nobody", Owner{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if o.same(test.other) != test.same {
				t.Errorf("same is %v", !test.same)
			}
		})
	}
}

func FuzzOwnerOf(f *testing.F) {
	f.Add([]byte(ownedDomain))
	f.Add([]byte("<domain><metadata><owner xmlns='https://fleet.nationtech.io/xmlns/owner'/></metadata></domain>"))
	f.Add([]byte("<domain/>"))
	f.Add([]byte("<"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := ownerOf(text)
		if err != nil && o != (Owner{}) {
			t.Errorf("there is an owner beside the error: %+v", o)
		}
		// What comes from libvirt is looked at in whole, too.
		if s, err := parseStatus(text); err == nil && s.Owner != o {
			t.Errorf("the machine's owner is %+v and %+v", s.Owner, o)
		}
	})
}
