// Package suggest finds the name that a mistyped one was meant to be, and words
// the hint.
package suggest

import (
	"fmt"
	"slices"
	"strings"
)

// Hint gives `did you mean "x"?` for the name of names nearest to given,
// or what there is when nothing is near and the list is short.
func Hint(given string, names []string) string {
	if near := Nearest(given, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return Have(names)
}

// Have lists names, when there are few enough to read.
func Have(names []string) string {
	if len(names) == 0 || len(names) > 30 {
		return ""
	}
	return "have " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// Nearest gives the name at the least edit distance from given, "" when none
// is within a third of its length.
func Nearest(given string, names []string) string {
	if len(given) > 100 {
		return ""
	}
	best, bound := "", max(1, (len(given)+2)/3)+1
	for _, name := range slices.Sorted(slices.Values(names)) {
		if len(name) > 100 {
			continue
		}
		if d := distance(strings.ToLower(given), strings.ToLower(name)); d < bound {
			best, bound = name, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions,
// replacements and swaps of neighbours, each at cost 1.
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}

// Listed joins names for a message: "a", "b" or "c".
func Listed(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}
