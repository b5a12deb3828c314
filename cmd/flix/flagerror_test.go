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

// What was said of arguments was how many there are, by cobra's count, and not
// which of them is missing or one too many.
func TestArgumentsAreNamed(t *testing.T) {
	for args, want := range map[string][2]string{
		"trace":               {"flix: trace: ID is missing", "flix trace ID"},
		"failover":            {"flix: failover: REGION is missing", "write it like: flix failover us-east"},
		"fill explain a":      {"flix: fill explain: APPLIANCE is missing", "flix fill explain "},
		"chaos run":           {"flix: chaos run: KIND is missing", "flix chaos run "},
		"trace a b":           {`flix: trace: "b" is one too many`, "flix trace ID"},
		"lab logs a b":        {`flix: lab logs: "b" is one too many`, "flix lab logs us-east"},
		"lab wan cut us-east": {"flix: lab wan cut: REGION is missing", "flix lab wan cut "},
		"play":                {"--title: not given, and needed", "see flix play --help"},
	} {
		var errOut bytes.Buffer
		env := Env{Args: strings.Fields(args), In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &errOut, Getenv: func(string) string { return "" }}
		if code := run(t.Context(), env); code != 2 {
			t.Errorf("%s: exit %d", args, code)
		}
		if got := errOut.String(); !strings.Contains(got, want[0]) || !strings.Contains(got, want[1]) {
			t.Errorf("%s: %s, want %q", args, got, want)
		}
	}
}
