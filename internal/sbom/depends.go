package sbom

import (
	"fmt"
	"slices"
	"strings"
)

// maxRelations bounds what a hostile database makes of few bytes; a desktop
// has 20 000.
const maxRelations = 1_000_000

// depends resolves Depends and Pre-Depends among what is installed: of
// alternatives the first that is there, a virtual package by all that provide
// it. Versions are not compared: dpkg did.
func (r *reader) depends() error {
	real, virtual := map[string][]int{}, map[string][]int{}
	for i, st := range r.installed {
		real[st["package"]] = append(real[st["package"]], i)
		for _, group := range relations(st["provides"]) {
			for _, name := range group {
				virtual[name] = append(virtual[name], i)
			}
		}
	}
	total := 0
	for i, st := range r.installed {
		var list []int
		for _, group := range relations(st["pre-depends"] + "," + st["depends"]) {
			list = append(list, resolve(group, real, virtual)...)
			if len(list)+total > maxRelations {
				return fmt.Errorf("reading the package database: more than %d dependencies", maxRelations)
			}
		}
		total += len(list)
		slices.Sort(list)
		list = slices.Compact(list)
		r.inv.Packages[i].Depends = slices.DeleteFunc(list, func(j int) bool { return j == i })
	}
	return nil
}

func resolve(group []string, real, virtual map[string][]int) []int {
	for _, name := range group {
		if found := real[name]; len(found) > 0 {
			return found
		}
		if found := virtual[name]; len(found) > 0 {
			return found
		}
	}
	return nil
}

// relations splits a relationship field into groups of alternative names,
// without versions and architectures (Policy 7.1).
func relations(field string) [][]string {
	var groups [][]string
	for part := range strings.SplitSeq(field, ",") {
		var group []string
		for alternative := range strings.SplitSeq(part, "|") {
			name := strings.TrimSpace(alternative)
			if end := strings.IndexAny(name, " \t\n(["); end >= 0 {
				name = name[:end]
			}
			name, _, _ = strings.Cut(name, ":")
			if name != "" {
				group = append(group, name)
			}
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}
