package web

import (
	"image/color"
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// luminance is the relative one (WCAG 2.2, definitions).
func luminance(c color.RGBA) float64 {
	part := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*part(c.R) + 0.7152*part(c.G) + 0.0722*part(c.B)
}

// Text is readable on both grounds, light and dark: seven to one, with which
// WCAG 2.2, 1.4.6 (level AAA) is content.
func TestTextHasContrast(t *testing.T) {
	css, err := os.ReadFile("assets/flix.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]color.RGBA{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)`).FindAllStringSubmatch(string(css), -1) {
		var pair [2]color.RGBA
		for i := range pair {
			n, err := strconv.ParseUint(m[2+i], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			pair[i] = color.RGBA{R: uint8(n >> 16), G: uint8(n >> 8), B: uint8(n), A: 255}
		}
		colours[m[1]] = pair
	}
	for _, on := range [][2]string{{"ink", "ground"}, {"ink", "panel"}, {"soft", "ground"}, {"soft", "panel"}, {"accent", "ground"}, {"on-accent", "accent"}} {
		for i, scheme := range []string{"light", "dark"} {
			text, ground := luminance(colours[on[0]][i]), luminance(colours[on[1]][i])
			if ratio := (max(text, ground) + 0.05) / (min(text, ground) + 0.05); ratio < 7 {
				t.Errorf("%s on %s, %s: %.2f to 1", on[0], on[1], scheme, ratio)
			}
		}
	}
}
