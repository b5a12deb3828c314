package main

import (
	"bytes"
	"strings"
	"testing"
)

// What was said of a flag's value were the words of strconv.
func TestFlagValuesAreExplained(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"--regions", "abc", "a whole number (number of preset regions, 1 to 6)"},
		{"--regions", "", "a whole number"},
		{"--dry-run", "perhaps", "true or false"},
	} {
		var errOut bytes.Buffer
		env := Env{Args: []string{"lab", "up", c.flag + "=" + c.value}, In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &errOut, Getenv: func(string) string { return "" }}
		if code := run(t.Context(), env); code != 2 {
			t.Errorf("%s=%s: exit %d", c.flag, c.value, code)
		}
		if got := errOut.String(); !strings.Contains(got, c.want) || !strings.Contains(got, `"`+c.value+`"`) || strings.Contains(got, "strconv") {
			t.Errorf("%s=%s: %s", c.flag, c.value, got)
		}
	}
}
