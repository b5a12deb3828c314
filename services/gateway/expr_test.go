package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// viewer is a request of which everything is known.
func viewer() facts {
	ex := get("/play/v2/start")
	ex.Request.Host = "API.flix.test:443"
	ex.Request.Method = "POST"
	ex.Request.Query = "debug=1&name=a%20b+c&empty&bad=%zz"
	ex.Request.Header = NewHeader("X-Beta", "yes", "User-Agent", "tv/1")
	ex.Country, ex.ISP, ex.Device = "US", "us-east-isp-1", "tv"
	ex.Member = &token.Claims{Member: "m-1", Plan: "premium"}
	ex.Client = netip.MustParseAddr("198.18.0.7")
	return facts{ex: ex, region: "us-east", zone: "a"}
}

func TestConditions(t *testing.T) {
	f := viewer()
	for text, want := range map[string]bool{
		`country == US`:                       true,
		`country == us`:                       true,
		`country != US`:                       false,
		`country in (CA, US)`:                 true,
		`country not in (CA, US, "")`:         false,
		`device != ""`:                        true,
		`device ^= t && country *= "S"`:       true,
		`method in (purge, POST)`:             true,
		`not country in (CA)`:                 true,
		`!(country == US)`:                    false,
		`method == post`:                      true,
		`host == api.flix.test`:               true,
		`host == API.FLIX.TEST`:               true,
		`host $= ".flix.test"`:                true,
		`path ^= /play/`:                      true,
		`path ^= /playback`:                   false,
		`path $= start && path *= v2`:         true,
		`path =~ "^/play/v[0-9]+/"`:           true,
		`path =~ "^/v[0-9]+/"`:                false,
		`device == tv and member == m-1`:      true,
		`device == tv and member == m-2`:      false,
		`device == phone or plan == premium`:  true,
		`isp == us-east-isp-1`:                true,
		`region == us-east && zone == a`:      true,
		`header("X-Beta") == yes`:             true,
		`header(x-beta) == yes`:               true,
		`header(X-None) == ""`:                true,
		`header('X-None') != ''`:              false,
		`query(debug) == 1`:                   true,
		`query(name) == "a b c"`:              true,
		`query(empty) == ""`:                  true,
		`query(bad) == ""`:                    true,
		`client in (198.18.0.0/16)`:           true,
		`client == 198.18.0.7`:                true,
		`client != 198.18.0.7`:                false,
		`client in (2001:db8::/32, 10.0.0.1)`: false,
		`percent(100)`:                        true,
		`percent(0)`:                          false,
		`percent(100%, x) && !percent(0, x)`:  true,
		// && binds closer than ||.
		`country == US || device == web && member == y`:                   true,
		`(country == US || device == web) && member == y`:                 false,
		`country==US&&device==tv`:                                         true,
		`country == "US" && ( device == 'tv' ) `:                          true,
		strings.Repeat("(", 30) + "country==US" + strings.Repeat(")", 30): true,
		"country == US\n\t&& device == tv":                                true,
		`member == "&& ||"`:                                               false,
	} {
		c, err := ParseCondition(text, "salt")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.holds(f); got != want {
			t.Errorf("%s is %t", text, got)
		}
		if c.String() != text {
			t.Errorf("%s is printed as %s", text, c)
		}
	}
	var none *Condition
	if !none.holds(f) {
		t.Error("no condition does not hold")
	}
	nobody := facts{ex: get("/")}
	if c, err := ParseCondition(`member == "" && plan == "" && country == "" && host == ""`, ""); err != nil || !c.holds(nobody) {
		t.Errorf("what a request does not have is not empty: %v", err)
	}
}

// TestBadConditions: an error says where, and what would be right.
func TestBadConditions(t *testing.T) {
	for text, want := range map[string]string{
		``:                                `at character 1 of "": the end stands where a field should`,
		`contry == US`:                    `at character 1 of "contry == US": there is no field "contry"; the fields are client, country, `,
		`country`:                         `at character 8 of "country": the end stands where a comparison should: ==`,
		`country = US`:                    `at character 9 of "country = US": '=' means nothing here`,
		`country == `:                     `the end stands where a value should`,
		`country == US device == tv`:      `at character 15 of "country == US device == tv": "device" is one word too many: join tests with && or ||`,
		`country == US &&`:                `the end stands where a field should`,
		`(country == US`:                  `the end stands where ")" should`,
		`country == US)`:                  `")" is one word too many`,
		`country in US`:                   `"US" stands where "(" should`,
		`country in ()`:                   `")" stands where a value should`,
		`country in (US,)`:                `")" stands where a value should`,
		`country in (US CA)`:              `"CA" stands where ")" should`,
		`country not US`:                  `"US" stands where a comparison should`,
		`percent(101)`:                    `at character 9 of "percent(101)": "101" is not a percentage from 0 to 100`,
		`percent(-1)`:                     `is not a percentage`,
		`percent(NaN)`:                    `is not a percentage`,
		`percent 5`:                       `"5" stands where "(" should`,
		`header == x`:                     `"==" stands where "(" should`,
		`header("") == x`:                 `header needs a name`,
		`path =~ "("`:                     `missing closing )`,
		`client == nobody`:                `"nobody" is neither an address nor a prefix`,
		`client ^= 198`:                   `neither an address nor a prefix`,
		`client ^= 198.18.0.1`:            `client knows ==, != and in, not ^=`,
		`member == "open`:                 `the text that begins here has no end`,
		`member == ü && ; x`:              `';' means nothing here`,
		strings.Repeat("(", 100):          `it is nested more than 32 deep`,
		strings.Repeat("!", 100) + "a==b": `it is nested more than 32 deep`,
		strings.Repeat("zone==a||", 200) + "zone==a": `it has more than 128 tests`,
		strings.Repeat("x", 5000):                    `the condition has 5000 bytes, at most 4096 are taken`,
		`device == tv && country == USA`:             `at character 28 of "device == tv && country == USA": "USA" is not a two-letter country code`,
		`country in (US, Canada)`:                    `at character 17 of "country in (US, Canada)": "Canada" is not a two-letter country code`,
		`device != fridge`:                           `"fridge" is not one of tv, phone, tablet, web`,
		`device not in (TV)`:                         `"TV" is not one of tv, phone, tablet, web`,
		`"country" == US`:                            `"country" stands where a field should`,
	} {
		_, err := ParseCondition(text, "")
		if services.KindOf(err) != services.Invalid || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.60s: %v\nwant %s", text, err, want)
		}
	}
}

func TestEvaluationAllocatesNothing(t *testing.T) {
	c, err := ParseCondition(`country in (CA, US) && device == tv && path ^= /play && percent(100) && header(X-Beta) == yes && !(client in (10.0.0.0/8))`, "")
	if err != nil {
		t.Fatal(err)
	}
	f := viewer()
	if n := testing.AllocsPerRun(100, func() {
		if !c.holds(f) {
			t.Fatal("it does not hold")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseCondition(f *testing.F) {
	for _, text := range []string{
		`country in (US, CA) && device == tv`, `path ^= /play/v2 || header("X-Beta") == yes`, `client in (198.18.0.0/16) and not percent(50, "salt")`,
		`query(debug) =~ "^[0-9]+$"`, `!((((region != us-east))))`, `host $= ".x"`, `percent(5%)`, `member not in ("a", 'b')`, "path == \"\xff\"", `a`, `(`, `"`,
	} {
		f.Add(text)
	}
	v := viewer()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(text, "s")
		if err != nil {
			if c != nil || services.KindOf(err) != services.Invalid {
				t.Errorf("%q: %v beside %v", text, c, err)
			}
			return
		}
		// The negation is a condition too, and the opposite.
		not, err := ParseCondition("!("+text+")", "s")
		if err != nil {
			if len(text) < maxExpression-4 && strings.Count(text, "(")+strings.Count(text, "!")+strings.Count(text, "not") < maxDepth-2 {
				t.Errorf("%q is a condition, its negation is not: %v", text, err)
			}
			return
		}
		if c.holds(v) == not.holds(v) {
			t.Errorf("%q and its negation are the same", text)
		}
	})
}
