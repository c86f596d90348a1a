package cloudimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// shop is a server with one image, which breaks connections off after so many bytes.
type shop struct {
	*httptest.Server
	mu       sync.Mutex
	image    []byte
	etag     string
	cutAfter int // 0 is never
	sums     string
	ranges   []string
}

func newShop(t *testing.T, image []byte) *shop {
	s := &shop{image: image, etag: `"v1"`}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "SUMS") {
		if s.sums == "" {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, s.sums)
		return
	}
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	w.Header().Set("ETag", s.etag)
	if s.cutAfter > 0 {
		w = &cutter{ResponseWriter: w, left: s.cutAfter}
	}
	http.ServeContent(w, r, "a.img", time.Time{}, bytes.NewReader(s.image))
}

// cutter drops the connection once it has let so many bytes through.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func (s *shop) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	return data
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestADownloadGoesOnWhereItBrokeOff(t *testing.T) {
	image := pattern(1 << 20)
	s := newShop(t, image)
	s.cutAfter = 300 << 10
	c := Cache{Dir: t.TempDir()}
	i := Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(image)}
	d, err := c.Get(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes came of %d, %v", len(got), len(image), err)
	}
	want := []string{"", "bytes=307200-", "bytes=614400-", "bytes=921600-"}
	if fmt.Sprint(s.ranges) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", s.ranges, want)
	}
	if names := files(t, c.Dir); len(names) != 1 {
		t.Errorf("left %q", names)
	}
	s.Close()
	if again, err := c.Get(t.Context(), i); err != nil || again.Path != d.Path {
		t.Errorf("what is there is asked for again: %v", err)
	}
}

func TestTheNextRunGoesOnWhereThisOneWasInterrupted(t *testing.T) {
	image := pattern(1 << 20)
	s := newShop(t, image)
	s.cutAfter = 300 << 10
	ctx, interrupt := context.WithCancel(t.Context())
	c := Cache{Dir: t.TempDir(), Tell: func(string, ...any) { interrupt() }}
	i := Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(image)}
	if _, err := c.Get(ctx, i); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "300.0 KiB are kept") {
		t.Fatalf("%v", err)
	}
	s.set(func() { s.cutAfter = 0 })
	if _, err := c.Get(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	if last := s.ranges[len(s.ranges)-1]; last != "bytes=307200-" {
		t.Errorf("the next run asked for %q", last)
	}
}

func TestHalfOfOneVersionIsNotCompletedWithAnother(t *testing.T) {
	old, image := pattern(1<<20), bytes.Repeat([]byte("new "), 1<<18)
	s := newShop(t, old)
	s.cutAfter = 300 << 10
	ctx, interrupt := context.WithCancel(t.Context())
	c := Cache{Dir: t.TempDir(), Tell: func(string, ...any) { interrupt() }}
	i := Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(image)}
	if _, err := c.Get(ctx, i); err == nil {
		t.Fatal("it was not interrupted")
	}
	s.set(func() { s.cutAfter, s.image, s.etag = 0, image, `"v2"` })
	d, err := c.Get(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestAnImageWithAWrongSumIsSaidAndRemoved(t *testing.T) {
	image := pattern(4096)
	s := newShop(t, image)
	c := Cache{Dir: t.TempDir()}
	want := sha([]byte("another"))
	_, err := c.Get(t.Context(), Image{Name: "a", URL: s.URL + "/a.img", Sum: want})
	var wrong *SumError
	if !errors.As(err, &wrong) || wrong.Got != sha(image) || wrong.Want != want || !strings.Contains(err.Error(), s.URL) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("%v", err)
	}
	if names := files(t, c.Dir); len(names) != 0 {
		t.Errorf("left %q", names)
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, image, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), Image{Name: "a", Path: file, Sum: want}); !errors.As(err, &wrong) {
		t.Errorf("of a file: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a person's own file was removed: %v", err)
	}
}

func TestAnImageThatWasDamagedInTheCacheIsDownloadedAgain(t *testing.T) {
	image := pattern(4096)
	s := newShop(t, image)
	c := Cache{Dir: t.TempDir()}
	i := Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(image)}
	d, err := c.Get(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.Path, 512); err != nil {
		t.Fatal(err)
	}
	if d, err = c.Get(t.Context(), i); err != nil || d.Size != 4096 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestAServerThatRefusesIsNotAskedAgain(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		http.Error(w, "no", http.StatusNotFound)
	}))
	defer s.Close()
	c := Cache{Dir: t.TempDir()}
	_, err := c.Get(t.Context(), Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(nil)})
	if err == nil || !strings.Contains(err.Error(), "404") || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestSumsBesideTheImage(t *testing.T) {
	image := pattern(4096)
	s := newShop(t, image)
	s.sums = sha(image).Hex + "  a.img\n"
	said := ""
	c := Cache{Dir: t.TempDir(), Tell: func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}
	i := Image{Name: "a", URL: s.URL + "/a.img", SumsURL: s.URL + "/SUMS"}
	if _, err := c.Get(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.sums = "" })
	if _, err := c.Get(t.Context(), i); err != nil || !strings.Contains(said, "as it was") {
		t.Errorf("without the network what is there is taken, and that is said: %q, %v", said, err)
	}
	other := Cache{Dir: t.TempDir()}
	if _, err := other.Get(t.Context(), i); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("where nothing is there: %v", err)
	}
	s.set(func() { s.sums = sha(image).Hex + "  b.img\n" })
	if _, err := other.Get(t.Context(), i); err == nil || !strings.Contains(err.Error(), "a.img") {
		t.Errorf("without its line: %v", err)
	}
}

func TestManyAtOnceDownloadOnce(t *testing.T) {
	image := pattern(1 << 20)
	s := newShop(t, image)
	c := Cache{Dir: t.TempDir()}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := c.Get(t.Context(), Image{Name: "a", URL: s.URL + "/a.img", Sum: sha(image)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(s.ranges) != 1 {
		t.Errorf("it was asked for %d times", len(s.ranges))
	}
}

func TestHowADownloadGoesOnIsShown(t *testing.T) {
	now := time.Unix(0, 0)
	var said []string
	tell := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	w := Lines(tell, func() time.Time { now = now.Add(3 * time.Second); return now })("debian-12", 100<<20, 20<<20)
	for range 8 {
		w.Write(make([]byte, 10<<20))
	}
	want := "[debian-12: 40% of 100.0 MiB debian-12: 60% of 100.0 MiB debian-12: 80% of 100.0 MiB debian-12: 100% of 100.0 MiB]"
	if fmt.Sprint(said) != want {
		t.Errorf("%v, want %s", said, want)
	}
	var out bytes.Buffer
	bar := Bar(&out)("debian-12", 1000, 500)
	bar.Write(make([]byte, 200))
	if !strings.Contains(out.String(), "debian-12") {
		t.Errorf("the bar is %q", out.String())
	}
	bar.Close()
}
