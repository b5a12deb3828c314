package topology

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and prints as text ("62ms") in YAML
// and JSON.
type Duration time.Duration

// D returns the value as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String prints the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses negative values.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write it like 62ms, 2s or 5m", b)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative: a duration is zero or more", b)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes that reads and prints as text ("4GiB").
type Size int64

// Rate is a number of bits per second that reads and prints as text ("10Gbit").
type Rate int64

type unit struct {
	suffix string
	factor float64
}

var (
	sizeUnits = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}
	rateUnits = []unit{{"Tbit", 1e12}, {"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"K", 1e3}}
)

func parseUnits(s, what, example string, units []unit) (int64, error) {
	t := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	factor := 1.0
	for _, u := range units {
		if n, ok := strings.CutSuffix(t, u.suffix); ok {
			t, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	f, err := strconv.ParseFloat(t, 64)
	v := f * factor
	if err != nil || math.IsNaN(v) || v < 0 || v > 1<<62 {
		return 0, fmt.Errorf("%q is not a %s: write it like %s", s, what, example)
	}
	return int64(v), nil
}

func formatUnits(v int64, units []unit) string {
	for _, u := range units {
		if f := int64(u.factor); v != 0 && v%f == 0 && v >= f {
			return strconv.FormatInt(v/f, 10) + u.suffix
		}
	}
	return strconv.FormatInt(v, 10) + units[len(units)-1].suffix
}

// parseSize reads "4GiB", "500MB" or a plain number of bytes.
func parseSize(s string) (Size, error) {
	v, err := parseUnits(s, "size", "4GiB or 500MB", sizeUnits)
	return Size(v), err
}

// String prints the size in the largest unit that divides it.
func (s Size) String() string { return formatUnits(int64(s), sizeUnits) }

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) (err error) { *s, err = parseSize(string(b)); return err }

// ParseRate reads "10Gbit", "300k", "20M" or a plain number of bits per second.
func ParseRate(s string) (Rate, error) {
	v, err := parseUnits(s, "rate", "10Gbit, 20M or 300k (bits per second)", rateUnits)
	return Rate(v), err
}

// String prints the rate in the largest unit that divides it.
func (r Rate) String() string { return formatUnits(int64(r), rateUnits[:5]) }

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) (err error) { *r, err = ParseRate(string(b)); return err }

// BytesPerSecond converts the rate.
func (r Rate) BytesPerSecond() float64 { return float64(r) / 8 }
