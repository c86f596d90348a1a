package env

import (
	"io"
	"net"
	"testing"
)

func TestARelayPassesBothWays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				heard, _ := io.ReadAll(c) // to the end of what is said
				_, _ = c.Write(append([]byte("you say "), heard...))
			}()
		}
	}()
	from, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	r, err := startRelay(t.Context(), from, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := net.Dial("tcp", from)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || string(answer) != "you say hello" {
			t.Errorf("the answer is %q, %v", answer, err)
		}
		c.Close()
	}
	open, err := net.Dial("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	r.close()
	if n, err := open.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes come from a relay that is closed", n)
	}
	if c, err := net.Dial("tcp", from); err == nil {
		c.Close()
		t.Error("a relay that is closed takes another connection")
	}
}

func TestARelayListensOnAnAddressThatIsYetToCome(t *testing.T) {
	r, err := startRelay(t.Context(), "192.0.2.1:0", "127.0.0.1:1") // TEST-NET-1
	if err != nil {
		t.Fatal(err)
	}
	r.close()
}
