package contracts

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

func someSigner(t testing.TB, fill byte) *Signer {
	t.Helper()
	seed, err := nkeys.EncodeSeed(nkeys.PrefixByteOperator, bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(pair)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASignatureIsOfOneValueForOneDeviceAndDeployment(t *testing.T) {
	signer, other := someSigner(t, 1), someSigner(t, 2)
	value := mustEncode(someDesiredState())
	data, err := signer.Tell("shop-1", "hello", value)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := DecodeEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := envelope.Verify("shop-1", "hello", signer.Public()); err != nil {
		t.Fatal(err)
	}
	order, err := envelope.Order(data, "hello")
	if err != nil || order.Desired == nil || order.Issued != 5 || order.Desired.Revision != "hello-abc" {
		t.Fatalf("order %+v, %v", order, err)
	}
	withdrawal := mustEncode(Withdrawal{Deployment: "hello", Issued: 6})
	for name, c := range map[string]struct {
		device     DeviceID
		deployment DeploymentName
		change     func(*Envelope)
	}{
		"another device":     {"shop-2", "hello", func(*Envelope) {}},
		"another deployment": {"shop-1", "other", func(*Envelope) {}},
		// A device and a deployment whose names together are the same.
		"a name moved over the border": {"shop-1h", "ello", func(*Envelope) {}},
		"another value":                {"shop-1", "hello", func(e *Envelope) { e.Value = bytes.Replace(e.Value, []byte("v1"), []byte("v2"), 1) }},
		"another number":               {"shop-1", "hello", func(e *Envelope) { e.Value = bytes.Replace(e.Value, []byte(`"issued":5`), []byte(`"issued":6`), 1) }},
		"a space more":                 {"shop-1", "hello", func(e *Envelope) { e.Value = append([]byte(" "), e.Value...) }},
		"passed off as a withdrawal":   {"shop-1", "hello", func(e *Envelope) { e.Value, e.Withdrawal = nil, e.Value }},
		"made a withdrawal":            {"shop-1", "hello", func(e *Envelope) { e.Value, e.Withdrawal = nil, withdrawal }},
		"another signature":            {"shop-1", "hello", func(e *Envelope) { e.Signature[0] ^= 1 }},
	} {
		e, err := DecodeEnvelope(data)
		if err != nil {
			t.Fatal(err)
		}
		c.change(&e)
		if err := e.Verify(c.device, c.deployment, signer.Public()); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var untrusted *UntrustedKeyError
	if err := envelope.Verify("shop-1", "hello", other.Public()); !errors.As(err, &untrusted) || untrusted.Got != signer.Public() {
		t.Errorf("with another key trusted: %v", err)
	}
	envelope.Key = other.Public()
	if err := envelope.Verify("shop-1", "hello", other.Public()); !errors.Is(err, ErrBadSignature) {
		t.Errorf("with another key named: %v", err)
	}
}

func TestAnEnvelopeOutlivesASnapshot(t *testing.T) {
	signer := someSigner(t, 1)
	d := someDesiredState()
	// What encoding/json writes in another way than it came.
	d.Score.Podman.Containers[0].Env[0].Value = "<&>\u2028 \"\\ é"
	data, err := signer.Tell("shop-1", "hello", mustEncode(d))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := DecodeSnapshot(mustEncode(Snapshot{Entries: []SnapshotEntry{{Deployment: "hello", Value: data}}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := snapshot.Entries[0].Value; !bytes.Equal(got, data) {
		t.Fatalf("it becomes\n%s, was\n%s", got, data)
	}
}

func TestSignedAgainItIsTheSameOrder(t *testing.T) {
	before, now := someSigner(t, 1), someSigner(t, 2)
	for name, sign := range map[string]func(*Signer) ([]byte, error){
		"told": func(s *Signer) ([]byte, error) { return s.Tell("shop-1", "hello", mustEncode(someDesiredState())) },
		"withdrawn": func(s *Signer) ([]byte, error) {
			return s.Withdraw("shop-1", "hello", mustEncode(Withdrawal{Deployment: "hello", Issued: 6}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := sign(before)
			if err != nil {
				t.Fatal(err)
			}
			e, err := DecodeEnvelope(first)
			if err != nil {
				t.Fatal(err)
			}
			again, err := now.Again("shop-1", "hello", e)
			if err != nil {
				t.Fatal(err)
			}
			a, errA := DecodeOrder(first, "hello")
			b, errB := DecodeOrder(again, "hello")
			if errA != nil || errB != nil || !a.Same(b) || a.Issued != b.Issued {
				t.Fatalf("%+v (%v) becomes %+v (%v)", a, errA, b, errB)
			}
			if e, err = DecodeEnvelope(again); err != nil || e.Verify("shop-1", "hello", now.Public()) != nil {
				t.Errorf("the new key does not count: %v", err)
			}
		})
	}
}

func TestAHandoverIsOfTheKeyThatIsTrusted(t *testing.T) {
	a, b, c := someSigner(t, 1), someSigner(t, 2), someSigner(t, 3)
	h, err := a.HandOver(b.Public(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = DecodeHandover(mustEncode(h)); err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(a.Public()); err != nil {
		t.Fatal(err)
	}
	var untrusted *UntrustedKeyError
	if err := h.Verify(c.Public()); !errors.As(err, &untrusted) {
		t.Errorf("to one who trusts another: %v", err)
	}
	for name, change := range map[string]func(*Handover){
		"to another": func(h *Handover) { h.To = c.Public() }, "another number": func(h *Handover) { h.Issued++ },
	} {
		changed := h
		change(&changed)
		if err := changed.Verify(a.Public()); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnvelopesAreRefusedWithAClearError(t *testing.T) {
	signer := someSigner(t, 1)
	data, err := signer.Tell("shop-1", "hello", mustEncode(someDesiredState()))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(map[string]any)) []byte {
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		change(fields)
		out, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"a value without an envelope": {mustEncode(someDesiredState()), "none of value and withdrawal"},
		"nothing in it":               {edit(func(f map[string]any) { delete(f, "value") }), "none of value and withdrawal"},
		"both":                        {edit(func(f map[string]any) { f["withdrawal"] = map[string]any{"v": 1} }), "both set"},
		"a device's key":              {edit(func(f map[string]any) { f["key"] = "UDKSRPM2KKLHVWKMOLPDFT2QRCYP34KQIBYR6MAIR4JXJ3QIN5HM4V5T" }), "begins with O"},
		"no signature":                {edit(func(f map[string]any) { delete(f, "signature") }), "0 bytes, a signature has 64"},
		"another version":             {edit(func(f map[string]any) { f["v"] = 2 }), "not supported"},
		"no number":                   {edit(func(f map[string]any) { delete(f["value"].(map[string]any), "issued") }), "field issued: 0 is not between"},
	} {
		if _, err := DecodeOrder(c.data, "hello"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error = %v, want it to contain %q", name, err, c.want)
		}
	}
	if _, err := DecodeOrder(data, "other"); err == nil || !strings.Contains(err.Error(), "of deployment hello") {
		t.Errorf("of another deployment: %v", err)
	}
}

func BenchmarkTell(b *testing.B) {
	signer := someSigner(b, 1)
	d := someDesiredState()
	d.Score.Podman.Containers[0].Args = []string{strings.Repeat("x", 600)}
	value := mustEncode(d)
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if _, err := signer.Tell("shop-1", "hello", value); err != nil {
				b.Fatal(err)
			}
		}
	})
	data, err := signer.Tell("shop-1", "hello", value)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			e, err := DecodeEnvelope(data)
			if err == nil {
				err = e.Verify("shop-1", "hello", signer.Public())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read without verifying", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeOrder(data, "hello"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
