package evcache

import (
	"strings"
	"testing"
)

// The vectors are those of the SipHash paper's reference implementation, which
// has the key 00 01 … 0f, too, for the messages 00 01 … of a length.
func TestSipHash(t *testing.T) {
	msg := make([]byte, 64)
	for i := range msg {
		msg[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5, 63: 0x958a324ceb064572} {
		if got := sipHash24(msg[:n]); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, x := range []struct {
		prefix, key string
		max         int
		want        string // "" for a digest
	}{
		{"", "k", 200, "k"},
		{"flix", "k", 200, "flix:k"},
		{"flix", "#k", 200, "flix:#k"},
		{"flix", strings.Repeat("k", 195), 200, "flix:" + strings.Repeat("k", 195)},
		{"flix", strings.Repeat("k", 196), 200, ""},
		{"flix", strings.Repeat("ü", 110), 200, "flix:" + strings.Repeat("ü", 110)}, // 115 letters, 225 bytes
		{"flix", strings.Repeat("ü", 150), 200, ""},                                 // memcached takes no key of 305 bytes
		{"flix", strings.Repeat("🎬", 99), 200, ""},                                  // 203 units in Java
		{"flix", "with blank", 200, ""},
		{"flix", "with\nline", 200, ""},
		{"flix", strings.Repeat("k", 230), 250, "flix:" + strings.Repeat("k", 230)},
	} {
		got, hashed := appendKey([]byte("get "), x.prefix, x.key, x.max)
		id := strings.TrimPrefix(string(got), "get ")
		switch {
		case x.want != "" && (hashed || id != x.want):
			t.Errorf("%s %.20q: %q (%v), want it as it is", x.prefix, x.key, id, hashed)
		case x.want == "" && (!hashed || len(id) != 11 || !validKey([]byte(id))):
			t.Errorf("%s %.20q: %q (%v), want a digest", x.prefix, x.key, id, hashed)
		}
	}
}

// A digest stands for one key only: what another key left there is a miss.
func TestDigestOfAnotherKeyIsAMiss(t *testing.T) {
	servers, nodes := zones(t, 1)
	c := newClient(t, Config{}, nodes...)
	key := strings.Repeat("long", 100)
	if err := c.Set(t.Context(), key, []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, key, "v")
	id := c.wireKey(key).id
	other := javaValue{key: "another", value: []byte("w")}
	for name, v := range map[string]entry{
		"another key": {key: id, value: other.encode(), flags: flagSerialized}, "no object": {key: id, value: []byte("x"), flags: flagSerialized}, "a text": {key: id, value: []byte("x")},
	} {
		servers[0].server.cache.store(v)
		if it, err := c.GetItem(t.Context(), key); err != ErrMiss { //nolint:errorlint // itself is returned
			t.Errorf("%s: %+v, %v", name, it, err)
		}
	}
}

func TestJavaValue(t *testing.T) {
	for _, v := range []javaValue{
		{}, {key: "flix:k", value: []byte("v"), flags: 0x802, ttl: 60, created: 1_700_000_000_000}, {key: "ü 世 🎬 \x00", value: []byte{0, 1, 2}},
		{key: strings.Repeat("k", 1<<16), value: []byte("v")},
	} {
		got, err := decodeJavaValue(v.encode())
		if err != nil || got.key != v.key || string(got.value) != string(v.value) || got.flags != v.flags || got.ttl != v.ttl || got.created != v.created {
			t.Errorf("%.40q: %.40q (%v)", v.key, got.key, err)
		}
	}
	whole := javaValue{key: "k", value: []byte("value")}.encode()
	for n := range whole {
		if _, err := decodeJavaValue(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for the whole", n, len(whole))
		}
	}
}

func FuzzJavaValue(f *testing.F) {
	f.Add(javaValue{key: "flix:k", value: []byte("v"), flags: 2, ttl: 1, created: 2}.encode())
	f.Add(javaValue{key: "ü🎬\x00"}.encode())
	f.Add([]byte{0xac, 0xed, 0, 5, tcObject})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeJavaValue(b)
		if err != nil {
			return
		}
		w, err := decodeJavaValue(v.encode())
		if err != nil || w.key != v.key || string(w.value) != string(v.value) || w.flags != v.flags {
			t.Errorf("%+v becomes %+v (%v)", v, w, err)
		}
	})
}
