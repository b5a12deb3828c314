package signup

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
)

// DefaultIterations is the cost of a password's hash where Deps names none.
const DefaultIterations = 210_000

const (
	hashScheme = "pbkdf2-sha256"
	saltBytes  = 16
	keyBytes   = sha256.Size
	// maxIterations bounds what a stored hash may ask of the CPU.
	maxIterations = 10_000_000
)

var b64 = base64.RawStdEncoding

// HashPassword hashes a password with PBKDF2-HMAC-SHA256 and a random salt, as
// "pbkdf2-sha256$iterations$salt$hash". Zero iterations are DefaultIterations.
// It is what sqldb.Member.PasswordHash holds; use it to seed members.
func HashPassword(password string, iterations int) (string, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails: the program would end first
	h := hash{iterations: iterations, salt: salt}
	key, err := h.derive(password)
	if err != nil {
		return "", services.Errorf(services.Invalid, "password: %v", err)
	}
	h.key = key
	return h.String(), nil
}

// hash is a parsed password hash.
type hash struct {
	iterations int
	salt, key  []byte
}

// String is the stored form.
func (h hash) String() string {
	return strings.Join([]string{hashScheme, strconv.Itoa(h.iterations), b64.EncodeToString(h.salt), b64.EncodeToString(h.key)}, "$")
}

// parseHash reads the stored form.
func parseHash(s string) (hash, error) {
	bad := func(why string) (hash, error) {
		return hash{}, services.Errorf(services.Internal, "stored password hash: %s", why)
	}
	f := strings.Split(s, "$")
	if len(f) != 4 || f[0] != hashScheme {
		return bad("it is not " + hashScheme)
	}
	n, err := strconv.Atoi(f[1])
	if err != nil || n < 1 || n > maxIterations || strconv.Itoa(n) != f[1] {
		return bad("its iteration count is out of range")
	}
	salt, err := b64.DecodeString(f[2])
	if err != nil || len(salt) < saltBytes {
		return bad("its salt is too short or not base64")
	}
	key, err := b64.DecodeString(f[3])
	if err != nil || len(key) != keyBytes {
		return bad("its key has the wrong length or is not base64")
	}
	return hash{iterations: n, salt: salt, key: key}, nil
}

func (h hash) derive(password string) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, h.salt, h.iterations, keyBytes)
}

// matches compares in constant time.
func (h hash) matches(password string) (bool, error) {
	key, err := h.derive(password)
	if err != nil {
		return false, services.Errorf(services.Internal, "password: %v", err)
	}
	return subtle.ConstantTimeCompare(key, h.key) == 1, nil
}
