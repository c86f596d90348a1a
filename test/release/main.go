// Command release holds the files of a release to what those who install from them
// expect: that checksums.txt has every one, and that krew takes the plugin's manifest.
//
//	release DIST
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: release DIST")
		os.Exit(2)
	}
	problems, err := check(os.Args[1])
	for _, p := range problems {
		fmt.Println(p)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	case len(problems) > 0:
		os.Exit(1)
	}
}

// check is all that is wrong with the release in a folder that goreleaser has written.
func check(dist string) ([]string, error) {
	r, err := readRelease(dist)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(dist)
	if err != nil {
		return nil, err
	}
	return append(r.problems(), m.problems("fleet", r)...), nil
}
