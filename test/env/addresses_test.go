package env

import (
	"net"
	"strconv"
	"testing"
)

func TestFleetsOfOneMachineHaveAddressesOfTheirOwn(t *testing.T) {
	first, err := reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	defer first.release()
	second, err := reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	if first.host(0) == second.host(0) {
		t.Errorf("both have %s", first.host(0))
	}
}

func TestPortThatIsTakenOnEveryAddressIsLeftAlone(t *testing.T) {
	first, err := reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	first.release()
	everywhere, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(first.Hello)))
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	second, err := reserve(3)
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	if second.Hello == first.Hello {
		t.Errorf("port %d was chosen, and something listens on it", first.Hello)
	}
}
