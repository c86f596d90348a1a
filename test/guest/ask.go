package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/nationtech/fleet/test/guest/tiny"
)

// Ask asks the tiny guest at an address once.
func Ask(ctx context.Context, host string) (tiny.Hello, error) {
	var h tiny.Hello
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	url := "http://" + net.JoinHostPort(host, strconv.Itoa(tiny.Port)) + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return h, err
	}
	request.Close = true
	// A transport of its own: a proxy of the environment does not know the guest.
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(request)
	if err != nil {
		return h, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&h); err != nil {
		return h, fmt.Errorf("decode the answer of %s: %w", url, err)
	}
	return h, nil
}
