package cassandra

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/telemetry"
)

// serve answers every request on every connection with the next of the frames;
// after the last one it falls silent. It returns its address.
func serve(t *testing.T, frames ...[]byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, f := range append(frames, nil) {
			var head [headerBytes]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[5:]))); err != nil {
				return
			}
			if _, err := conn.Write(f); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, conn) // until the client closes
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func frame(op byte, body ...byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{wireVersion | wireAnswer, 0, 0, 0, op}, uint32(len(body)))
	return append(head, body...)
}

func u32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// localRow is the answer about system.local.
func localRow() []byte {
	b := append(u32(resultRows), append(u32(flagGlobalTable), u32(3)...)...)
	b = appendString(appendString(b, "system"), "local")
	for _, c := range []struct {
		name string
		kind uint16
	}{{"host_id", 0x0c}, {"data_center", 0x0d}, {"rpc_address", 0x10}} {
		b = binary.BigEndian.AppendUint16(appendString(b, c.name), c.kind)
	}
	b = append(b, u32(1)...)
	for _, v := range [][]byte{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, []byte("us-east"), {10, 0, 0, 1}} {
		b = append(append(b, u32(len(v))...), v...)
	}
	return b
}

func TestIdentify(t *testing.T) {
	n, err := identify(t.Context(), serve(t, frame(opReady), frame(opResult, localRow()...)), nil)
	if err != nil || n.id != "00010203-0405-0607-0809-0a0b0c0d0e0f" || n.datacenter != "us-east" || n.client.String() != "10.0.0.1" {
		t.Errorf("identify = %+v, %v", n, err)
	}
}

func TestPingFails(t *testing.T) {
	refused := appendString(u32(0x1001), "overloaded")
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   services.Kind
		silent bool // only the caller's deadline ends it
	}{
		{"silent from the start", nil, services.Unavailable, true},
		{"silent after the greeting", [][]byte{frame(opReady)}, services.Unavailable, true},
		{"an error", [][]byte{frame(opReady), frame(opError, refused...)}, services.Unavailable, false},
		{"wants a password", [][]byte{frame(opAuthenticate)}, services.Denied, false},
		{"another protocol", [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, services.Unavailable, false},
		{"endless answer", [][]byte{{wireVersion | wireAnswer, 0, 0, 0, opReady, 0xff, 0xff, 0xff, 0xff}}, services.Unavailable, false},
		{"no rows", [][]byte{frame(opReady), frame(opResult, u32(1)...)}, services.Unavailable, false},
		{"a result cut short", [][]byte{frame(opReady), frame(opResult, localRow()[:60]...)}, services.Unavailable, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			patience := time.Minute
			if c.silent {
				patience = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := Ping(ctx, serve(t, c.frames...), nil); services.KindOf(err) != c.want {
				t.Errorf("Ping = %v, want %s", err, c.want)
			}
			if !c.silent && ctx.Err() != nil {
				t.Error("it waited until its deadline for what it had read already")
			}
		})
	}
}

func FuzzDecodeResult(f *testing.F) {
	f.Add(localRow())
	f.Add(u32(1))
	f.Add(append(u32(resultRows), u32(flagNoMetadata)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := decodeResult(b)
		if err != nil && (rows != nil || !errors.Is(err, errWire)) {
			t.Errorf("decodeResult = %v, %v", rows, err)
		}
		for _, r := range rows {
			_, _, _ = r["host_id"].uuid(), r["rpc_address"].ip(), r["port"].number()
		}
	})
}

// Without a cluster everything fails in time, and nothing is left behind.
func TestWithoutCluster(t *testing.T) {
	for name, hosts := range map[string][]string{"no nodes": nil, "nothing listens": {"127.0.0.1:1"}, "silent": {serve(t)}} {
		t.Run(name, func(t *testing.T) {
			s, err := New(Config{Hosts: func() []string { return hosts }, Datacenter: "us-east", Timeout: 50 * time.Millisecond, Tel: telemetry.Discard()})
			if err != nil {
				t.Fatal(err)
			}
			// The calls have no deadline of their own: that they end is the store's doing.
			if _, err := s.Get(t.Context(), kv.Probe, "p", "s"); services.KindOf(err) != services.Unavailable {
				t.Errorf("Get = %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := s.Get(t.Context(), kv.Probe, "p", "s"); services.KindOf(err) != services.Unavailable {
				t.Errorf("Get after Close = %v", err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	hosts := func() []string { return nil }
	for _, c := range []Config{
		{Datacenter: "x", Tel: telemetry.Discard()},
		{Hosts: hosts, Tel: telemetry.Discard()},
		{Hosts: hosts, Datacenter: "x"},
		{Hosts: hosts, Datacenter: "x", Tel: telemetry.Discard(), Keyspace: `a"b`},
	} {
		if _, err := New(c); services.KindOf(err) != services.Invalid {
			t.Errorf("New(%+v) = %v, want invalid", c, err)
		}
	}
}
