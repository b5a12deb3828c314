// Package token signs and checks the lab's tokens: member tokens, admin keys,
// licences, signed appliance URLs and fill requests.
//
// A token is base64url(JSON claims) "." base64url(HMAC-SHA256), keyed by a key
// derived from the lab's key for the token's audience, so that one made for
// one audience never verifies for another. It carries lab id, audience and
// expiry. It is signed, not encrypted: nothing secret goes into it.
package token

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Audience says what a token is good for.
type Audience string

// The audiences.
const (
	Member    Audience = "member"    // a signed-in member, to the gateway
	URL       Audience = "url"       // a client, to appliances, for one title
	Fill      Audience = "fill"      // an appliance, to another
	License   Audience = "license"   // a streaming licence
	AdminKey  Audience = "admin"     // the daemon, to admin endpoints
	S3        Audience = "s3"        // S3 secret key
	Discharge Audience = "discharge" // proof between gateways of two regions
	Stock     Audience = "stock"     // a stock player, to the play API, for one play
	Debug     Audience = "debug"     // an operator, to the gateway, for the detail of a request
)

// Kinds of devices that a claim may name.
const (
	DeviceTV     = "tv"
	DevicePhone  = "phone"
	DeviceTablet = "tablet"
	DeviceWeb    = "web"
)

// Devices are all kinds of devices.
func Devices() []string { return []string{DeviceTV, DevicePhone, DeviceTablet, DeviceWeb} }

// Claims are what a token says. Unused fields stay empty.
type Claims struct {
	Lab      string   `json:"lab"`
	Audience Audience `json:"aud"`
	// Expires is Unix time in seconds; the token is refused from then on.
	Expires int64  `json:"exp"`
	Member  string `json:"sub,omitempty"`
	Plan    string `json:"plan,omitempty"`
	Country string `json:"cc,omitempty"`
	Device  string `json:"dev,omitempty"`
	Session string `json:"sid,omitempty"`
	Title   string `json:"tt,omitempty"`
	// Client is the address the token was made for.
	Client string `json:"ip,omitempty"`
	// MaxHeight is the tallest video the plan allows, in lines.
	MaxHeight int `json:"mh,omitempty"`
	// Trace is the trace id of the play, for correlation.
	Trace string `json:"tr,omitempty"`
}

// Key is a lab's root key with the lab's id. It is safe for concurrent use.
type Key struct {
	lab  string
	root []byte
	// derived holds the keys of the known audiences: deriving one for every
	// token checked would cost more than checking it.
	derived map[Audience][]byte
}

// NewKey wraps the lab's root key; at least 16 bytes.
func NewKey(lab string, root []byte) (Key, error) {
	if len(root) < 16 {
		return Key{}, services.Errorf(services.Invalid, "lab key has %d bytes, want at least 16", len(root))
	}
	k := Key{lab: lab, root: root, derived: map[Audience][]byte{}}
	for _, aud := range []Audience{Member, URL, Fill, License, AdminKey, S3, Discharge, Stock, Debug} {
		k.derived[aud] = k.derive(aud)
	}
	return k, nil
}

// Derive returns 32 bytes for an audience, e.g. the S3 secret. They must not
// be changed.
func (k Key) Derive(aud Audience) []byte {
	if b, ok := k.derived[aud]; ok {
		return b
	}
	return k.derive(aud)
}

func (k Key) derive(aud Audience) []byte {
	b, err := hkdf.Key(sha256.New, k.root, []byte(k.lab), "flix "+string(aud), 32)
	if err != nil { // only for absurd lengths
		panic("token: hkdf: " + err.Error())
	}
	return b
}

// Secret is Derive as text.
func (k Key) Secret(aud Audience) string { return enc.EncodeToString(k.Derive(aud)) }

// Lab is the id of the lab the key belongs to.
func (k Key) Lab() string { return k.lab }

// enc has one text for given bytes: spare bits in the last character, which a
// lax decoder overlooks, are refused.
var enc = base64.RawURLEncoding.Strict()

// Sign makes a token for the audience that expires after ttl from now.
func (k Key) Sign(aud Audience, c Claims, now time.Time, ttl time.Duration) string {
	c.Lab, c.Audience, c.Expires = k.lab, aud, now.Add(ttl).Unix()
	body, err := json.Marshal(c)
	if err != nil { // Claims holds only strings and numbers
		panic("token: " + err.Error())
	}
	p := enc.EncodeToString(body)
	return p + "." + enc.EncodeToString(k.mac(aud, p))
}

func (k Key) mac(aud Audience, payload string) []byte {
	m := hmac.New(sha256.New, k.Derive(aud))
	m.Write([]byte(payload))
	return m.Sum(nil)
}

// Verify checks signature, lab, audience and expiry. Errors are Denied with
// reason token_malformed, token_forged, token_audience or token_expired.
func (k Key) Verify(aud Audience, tok string, now time.Time) (Claims, error) {
	deny := func(reason, msg string) (Claims, error) {
		return Claims{}, services.Errorf(services.Denied, "%s token: %s", aud, msg).WithReason(reason)
	}
	if len(k.root) == 0 { // the zero Key: anybody could sign with it
		return deny("token_forged", "there is no key to check it with")
	}
	p, sig, ok := strings.Cut(tok, ".")
	if !ok || len(tok) > 4096 {
		return deny("token_malformed", "it is not a flix token")
	}
	mac, err := enc.DecodeString(sig)
	// The decoder skips line ends; a token has none.
	if err != nil || strings.ContainsAny(sig, "\r\n") || !hmac.Equal(mac, k.mac(aud, p)) {
		return deny("token_forged", "the signature does not match")
	}
	body, err := enc.DecodeString(p)
	if err != nil {
		return deny("token_malformed", "its payload is not base64url")
	}
	var c Claims
	if err := json.Unmarshal(body, &c); err != nil {
		return deny("token_malformed", "its payload is not JSON")
	}
	if c.Lab != k.lab || c.Audience != aud {
		return deny("token_audience", "it was made for another lab or audience")
	}
	if now.Unix() >= c.Expires {
		return deny("token_expired", "it has expired")
	}
	return c, nil
}
