package liveapi

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/transport"
)

func dynamicCodecs() serializer.WithoutConversionCodecFactory {
	return serializer.WithoutConversionCodecFactory{CodecFactory: serializer.NewCodecFactory(runtime.NewScheme())}
}

// forward passes connections on to whoever serves at the moment.
func forward(front net.Listener, current *atomic.Pointer[served]) {
	for {
		in, err := front.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", strings.TrimPrefix(current.Load().config.Host, "https://"))
			if err != nil {
				return
			}
			defer out.Close()
			var both sync.WaitGroup
			both.Go(func() { _, _ = io.Copy(out, in); out.Close() })
			both.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			both.Wait()
		}()
	}
}

// bearer signs requests for whoever serves at the moment.
func bearer(current *atomic.Pointer[served]) transport.WrapperFunc {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+current.Load().config.BearerToken)
			return next.RoundTrip(r)
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
