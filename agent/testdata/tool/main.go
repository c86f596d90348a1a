// Tool is what commands are tested on in a container.
//
//	tool talk          writes a line to each output every 20 ms, until SIGTERM
//	tool cat CODE      copies its input to its output, says on the other output that
//	                   it is done, and ends with CODE
//	tool size          says its terminal's size, again when that changes, and ends
//	                   with 5 when it reads a q
//	tool flood BYTES   writes so many bytes that are no text, without an end of line
//	tool deaf          heeds neither its input nor SIGHUP
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[1] {
	case "talk":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		for i := 0; ; i++ {
			fmt.Println("out", i)
			fmt.Fprintln(os.Stderr, "err", i)
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
		fmt.Fprint(os.Stderr, "done")
		os.Exit(number(2))
	case "size":
		changed := make(chan os.Signal, 1)
		signal.Notify(changed, unix.SIGWINCH)
		say()
		go func() {
			for range changed {
				say()
			}
		}()
		for key := make([]byte, 1); ; {
			if _, err := os.Stdin.Read(key); err != nil || key[0] == 'q' {
				os.Exit(5)
			}
		}
	case "flood":
		chunk := make([]byte, 64<<10)
		for i := range chunk {
			chunk[i] = byte(i*7) | 0x80
		}
		for left := number(2); left > 0; left -= len(chunk) {
			_, _ = os.Stdout.Write(chunk[:min(left, len(chunk))])
		}
	case "deaf":
		signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
		fmt.Println("deaf")
		time.Sleep(time.Hour)
	}
}

func say() {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		fmt.Println("no terminal")
		return
	}
	fmt.Printf("%dx%d\n", size.Col, size.Row)
}

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}
