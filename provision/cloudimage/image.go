// Package cloudimage gets the images that machines are made of, and keeps them.
//
// An image is kept under the name of its checksum once that was found right, and under no
// other: what is there is whole.
package cloudimage

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/nationtech/fleet/provision/libvirt"
)

// Sum is a checksum of a file.
type Sum struct {
	// Algorithm is sha256 or sha512.
	Algorithm string
	// Hex is the sum in lower case.
	Hex string
}

var algorithms = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}

// ParseSum reads a checksum of an algorithm.
func ParseSum(algorithm, text string) (Sum, error) {
	h, known := algorithms[algorithm]
	if !known {
		return Sum{}, fmt.Errorf("checksum algorithm %q: it must be sha256 or sha512", algorithm)
	}
	text = strings.ToLower(strings.TrimSpace(text))
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != h().Size() {
		return Sum{}, fmt.Errorf("%s checksum %q: it must be %d digits of 0-9 and a-f", algorithm, text, 2*h().Size())
	}
	return Sum{Algorithm: algorithm, Hex: text}, nil
}

// String is the sum with its algorithm.
func (s Sum) String() string { return s.Algorithm + ":" + s.Hex }

// Zero reports whether no sum is known.
func (s Sum) Zero() bool { return s == Sum{} }

// sumOf computes the sum of a file.
func sumOf(algorithm, file string) (Sum, error) {
	f, err := os.Open(file)
	if err != nil {
		return Sum{}, err
	}
	defer f.Close()
	h := algorithms[algorithm]()
	if _, err := io.Copy(h, f); err != nil {
		return Sum{}, fmt.Errorf("read %s: %w", file, err)
	}
	return Sum{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}, nil
}

// Image is an image before it is there: a file of this machine, or a URL.
type Image struct {
	// Name is what people call it.
	Name string
	Arch libvirt.Arch
	// Path is the file, or URL where to download it from.
	Path, URL string
	// Sum is the checksum. An image of a URL has one, or the URL of a file of sums in which
	// the image is a line.
	Sum     Sum
	SumsURL string
}

// debian is where the images of Debian 12 are.
const debian = "https://cloud.debian.org/images/cloud/bookworm/latest/"

// Catalogue are the images that are known by a name.
func Catalogue() []Image {
	var all []Image
	for arch, word := range map[libvirt.Arch]string{libvirt.X86_64: "amd64", libvirt.AArch64: "arm64"} {
		// The sums come over the same way as the image. What they are good for is an image
		// that is damaged or only half there, and one that was replaced between two looks.
		all = append(all, Image{
			Name: "debian-12", Arch: arch,
			URL:     debian + "debian-12-genericcloud-" + word + ".qcow2",
			SumsURL: debian + "SHA512SUMS",
		})
	}
	slices.SortFunc(all, func(a, b Image) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch)) })
	return all
}

// Names are the names in the catalogue.
func Names() []string {
	var names []string
	for _, i := range Catalogue() {
		names = append(names, i.Name)
	}
	return slices.Compact(names)
}

// Find reads what a person writes for an image: a name of the catalogue, a URL, or the
// path of a file.
func Find(text string, arch libvirt.Arch, sum Sum) (Image, error) {
	for _, i := range Catalogue() {
		if i.Name == text && i.Arch == arch {
			if !sum.Zero() {
				i.Sum, i.SumsURL = sum, ""
			}
			return i, nil
		}
	}
	if slices.Contains(Names(), text) {
		return Image{}, fmt.Errorf("image %s is not there for %s", text, arch)
	}
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return Image{}, fmt.Errorf("image: %w", err)
		case u.Scheme != "http" && u.Scheme != "https":
			return Image{}, fmt.Errorf("image %s: the scheme must be http or https, not %s", text, u.Scheme)
		case sum.Zero():
			return Image{}, fmt.Errorf("image %s: give its checksum with --sha256 or --sha512; what boots as a machine of yours should be what you think it is", text)
		}
		return Image{Name: path.Base(u.Path), Arch: arch, URL: text, Sum: sum}, nil
	}
	info, err := os.Stat(text)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Image{}, fmt.Errorf("image %q is neither a file, nor a URL, nor one of %s", text, strings.Join(Names(), ", "))
	case err != nil:
		return Image{}, fmt.Errorf("image: %w", err)
	case !info.Mode().IsRegular():
		return Image{}, fmt.Errorf("image %s is not a file", text)
	}
	return Image{Name: path.Base(text), Arch: arch, Path: text, Sum: sum}, nil
}

// sumIn finds a file's line in a file of sums, as sha512sum writes it.
func sumIn(sums, name string) (Sum, error) {
	for line := range strings.Lines(sums) {
		digits, file, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || strings.TrimLeft(file, " *") != name {
			continue
		}
		for algorithm, h := range algorithms {
			if len(digits) == 2*h().Size() {
				return ParseSum(algorithm, digits)
			}
		}
	}
	return Sum{}, fmt.Errorf("there is no sha256 or sha512 sum of %s in it", name)
}
