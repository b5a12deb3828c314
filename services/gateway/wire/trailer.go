package wire

// notTrailing are fields whose receiver must have them before the body, by RFC
// 9110 section 6.5.1, beside those that frame the message: they route it, change
// what is asked, prove who asks, or say how to read the body.
var notTrailing = [...]string{
	"Authorization", "Cache-Control", "Content-Encoding", "Content-Range", "Content-Type", "Cookie",
	"Expect", "Host", "Max-Forwards", "Pragma", "Range", "Set-Cookie", "Www-Authenticate",
}

// MayTrail says whether a field of a request may come after its body.
func MayTrail(name string) bool {
	if !IsToken(name) || framed(name) || HasNamePrefix(name, "If-") {
		return false
	}
	for _, n := range notTrailing {
		if SameName(name, n) {
			return false
		}
	}
	return true
}

func mayNotTrail(name string) bool { return !MayTrail(name) }
