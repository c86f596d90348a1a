package contracts

import (
	"bytes"
	"reflect"
	"testing"
)

func FuzzDecodeDesiredState(f *testing.F) {
	f.Add(mustEncode(someMachines()))
	fuzz(f, DecodeDesiredState, mustEncode(someDesiredState()))
}

func FuzzDecodeEnvelope(f *testing.F) {
	signer := someSigner(f, 1)
	for _, sign := range []func() ([]byte, error){
		func() ([]byte, error) { return signer.Tell("shop-1", "hello", mustEncode(someDesiredState())) },
		func() ([]byte, error) {
			return signer.Withdraw("shop-1", "hello", mustEncode(Withdrawal{Deployment: "hello", Issued: 1}))
		},
	} {
		data, err := sign()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	fuzz(f, DecodeEnvelope, mustEncode(Envelope{Key: signer.Public(), Signature: make([]byte, 64), Value: []byte("{}")}))
}

// FuzzOrder holds what devices obey to this: nothing that another has touched is
// accepted.
func FuzzOrder(f *testing.F) {
	signer := someSigner(f, 1)
	good, err := signer.Tell("shop-1", "hello", mustEncode(someDesiredState()))
	if err != nil {
		f.Fatal(err)
	}
	original, err := DecodeEnvelope(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("hello"), []byte("hullo"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEnvelope(data)
		if err != nil || e.Verify("shop-1", "hello", signer.Public()) != nil {
			return
		}
		if !bytes.Equal(e.Value, original.Value) || e.Withdrawal != nil {
			t.Fatalf("%s was never signed", data)
		}
	})
}

func FuzzDecodeWithdrawal(f *testing.F) {
	fuzz(f, DecodeWithdrawal, mustEncode(Withdrawal{Deployment: "hello", Issued: 1}))
}

func FuzzDecodeHandover(f *testing.F) {
	h, err := someSigner(f, 1).HandOver(someSigner(f, 2).Public(), 1)
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, DecodeHandover, mustEncode(h))
}

func FuzzDecodeDeploymentState(f *testing.F) {
	fuzz(f, DecodeDeploymentState, mustEncode(someState()))
}

func FuzzDecodeDeviceInfo(f *testing.F) {
	fuzz(f, DecodeDeviceInfo, mustEncode(DeviceInfo{Device: "shop-1", Addresses: []string{"192.0.2.1"}}))
}

func FuzzDecodeHeartbeat(f *testing.F) {
	fuzz(f, DecodeHeartbeat, mustEncode(HeartbeatPayload{Seq: 1, Time: 2, Interval: 30}))
}

func FuzzDecodeSnapshot(f *testing.F) {
	fuzz(f, DecodeSnapshot, mustEncode(Snapshot{Entries: []SnapshotEntry{{Deployment: "a", Value: []byte("{}")}}}))
}

func FuzzDecodeSnapshotRequest(f *testing.F) {
	fuzz(f, DecodeSnapshotRequest, mustEncode(SnapshotRequest{After: "a"}))
}

func FuzzDecodeCommandRequest(f *testing.F) {
	for _, r := range someRequests() {
		f.Add(mustEncode(r))
	}
	fuzz(f, DecodeCommandRequest, mustEncode(CommandRequest{Verb: VerbPing, Session: NewSessionID(), Milliseconds: 1}))
}

func FuzzDecodeCommandReply(f *testing.F) {
	f.Add(mustEncode(CommandReply{Session: NewSessionID(), Ping: &Pong{AgentVersion: "v1"}}))
	fuzz(f, DecodeCommandReply, mustEncode(CommandReply{Session: NewSessionID(), Error: CommandErrorf(CodeBusy, "later")}))
}

// FuzzDecodeFrame holds what is not JSON to the same, and more: a frame has one form.
func FuzzDecodeFrame(f *testing.F) {
	for _, one := range someFrames() {
		data, err := EncodeFrame(one)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add(make([]byte, frameHead))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := DecodeFrame(data)
		if err != nil {
			return
		}
		if len(v.Data) > MaxChunk {
			t.Fatalf("%d bytes of data", len(v.Data))
		}
		again, err := EncodeFrame(v)
		if err != nil {
			if v.Kind == FrameEnd {
				return // its JSON may take more room than it came in
			}
			t.Fatal(err)
		}
		if v.Kind != FrameEnd && !bytes.Equal(again, data) {
			t.Fatalf("%x becomes %x", data, again)
		}
		if back, err := DecodeFrame(again); err != nil || !reflect.DeepEqual(back, v) && v.Kind != FrameEnd {
			t.Fatalf("%x becomes %+v: %v", data, back, err)
		}
	})
}

func mustEncode[T Value](v T) []byte {
	data, err := Encode(v)
	if err != nil {
		panic(err)
	}
	return data
}

// fuzz holds a decoder to this: it never panics, and what it accepts can be
// written and read again without becoming something else, unless writing it out
// takes more room than there is.
func fuzz[T Value](f *testing.F, decode func([]byte) (T, error), seed []byte) {
	f.Add(seed)
	for _, s := range []string{"", "{}", "null", `{"v":1}`, `{"v":2}`, `{"v":"1"}`, `{"v":1,"score":{"podman":null}}`, "[", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decode(data)
		if err != nil {
			return
		}
		again, err := Encode(v)
		if err != nil {
			return
		}
		back, err := decode(again)
		if err != nil {
			t.Fatalf("%s was accepted, but written again it is %s: %v", data, again, err)
		}
		third, err := Encode(back)
		if err != nil || !reflect.DeepEqual(again, third) {
			t.Fatalf("%s becomes %s: %v", again, third, err)
		}
	})
}
