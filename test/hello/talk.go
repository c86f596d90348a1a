package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// talk answers line by line: "size" is that of the terminal, "exit N" ends with a
// code, and everything else is said back.
func talk(in *os.File, out io.Writer) int {
	prompt := ""
	if term.IsTerminal(int(in.Fd())) {
		prompt = fmt.Sprintf("hello %s on %s> ", version(), envOr("DEVICE", "no device"))
	}
	fmt.Fprint(out, prompt)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0:
		case words[0] == "exit" && len(words) == 2:
			code, err := strconv.Atoi(words[1])
			if err == nil {
				return code
			}
			fmt.Fprintln(out, err)
		case words[0] == "exit":
			return 0
		case words[0] == "size":
			width, height, err := term.GetSize(int(in.Fd()))
			fmt.Fprintln(out, width, height, err)
		default:
			fmt.Fprintln(out, "you say:", strings.Join(words, " "))
		}
		fmt.Fprint(out, prompt)
	}
	return 0
}
