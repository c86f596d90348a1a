package libvirt

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
)

// ownerNamespace is under what name a machine says in its metadata whose it is.
const ownerNamespace = "https://fleet.nationtech.io/xmlns/owner"

// Owner says for whom a machine or network was made. Device, Deployment and Name are who;
// Hash is which version of it, and takes no part in whose it is.
type Owner struct {
	Device     string `xml:"device,attr,omitempty"`
	Deployment string `xml:"deployment,attr,omitempty"`
	Name       string `xml:"name,attr,omitempty"`
	Hash       string `xml:"hash,attr,omitempty"`
}

// Zero reports whether o is nobody.
func (o Owner) Zero() bool { return o.Device == "" && o.Deployment == "" && o.Name == "" }

// same reports whether o and other are the same owner, of whatever version.
func (o Owner) same(other Owner) bool {
	return o.Device == other.Device && o.Deployment == other.Deployment && o.Name == other.Name
}

func (o Owner) String() string {
	switch {
	case o.Zero():
		return "nobody"
	case o.Deployment == "":
		return fmt.Sprintf("%s of device %s", o.Name, o.Device)
	}
	return fmt.Sprintf("%s of deployment %s on device %s", o.Name, o.Deployment, o.Device)
}

// ownerXML is an Owner as libvirt keeps it. The namespace is the element's own, not a
// prefix: libvirt drops what has none, and keeps one element of each.
type ownerXML struct {
	XMLName xml.Name `xml:"https://fleet.nationtech.io/xmlns/owner owner"`
	Owner
}

// ownerOf reads whose machine it is from what libvirt says about it; the zero owner when
// it doesn't say. Only the metadata of the machine itself counts, and of two answers
// neither.
func ownerOf(domain []byte) (Owner, error) {
	decoder := xml.NewDecoder(bytes.NewReader(domain))
	var owners []Owner
	var within []string
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Owner{}, fmt.Errorf("read a machine's metadata: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space == ownerNamespace && t.Name.Local == "owner" &&
				len(within) == 2 && within[0] == "domain" && within[1] == "metadata" {
				var found ownerXML
				if err := decoder.DecodeElement(&found, &t); err != nil {
					return Owner{}, fmt.Errorf("read a machine's owner: %w", err)
				}
				owners = append(owners, found.Owner)
				continue
			}
			within = append(within, t.Name.Local)
		case xml.EndElement:
			within = within[:len(within)-1]
		}
	}
	if len(owners) != 1 {
		return Owner{}, nil
	}
	return owners[0], nil
}
