package services

import (
	"fmt"
	"strconv"
	"strings"
)

// Count says how many of something there are, as a person would: "1 play",
// "2 plays". The noun is one whose plural ends in s.
func Count[N ~int | ~int64 | ~uint64](n N, noun string) string {
	text := strconv.FormatInt(int64(n), 10) + " " + noun
	if n == 1 {
		return text
	}
	return text + "s"
}

// List names some things, as a person would: "us-east, us-west".
func List[S ~string](names []S) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// ListOf names things that have a text of their own, as List does.
func ListOf[S fmt.Stringer](things []S) string {
	names := make([]string, len(things))
	for i, t := range things {
		names[i] = t.String()
	}
	return List(names)
}
