package seal

import (
	"path"
	"slices"
	"strings"
)

// maxHomes bounds the homes of a tree.
const maxHomes = 10000

// findHomes gives the homes that a tree has, as real names: root's, those of etc/passwd
// (passwd(5)) and each folder of home.
func (p *planner) findHomes() ([]string, error) {
	homes := []string{"root"}
	name, info, err := p.resolve("etc/passwd")
	if err != nil {
		return nil, err
	}
	if info != nil && info.Mode().IsRegular() {
		text, err := p.text(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(text, "\n") {
			if f := strings.Split(line, ":"); len(f) > 5 && strings.HasPrefix(f[5], "/") {
				homes = append(homes, path.Clean(f[5])[1:])
			}
		}
	}
	more, err := p.glob("home/*")
	if err != nil {
		return nil, err
	}
	var real []string
	for _, home := range append(homes, more...) {
		dir, err := p.folder(home)
		if err != nil {
			return nil, err
		}
		if dir != "" && dir != "." && len(real) < maxHomes {
			real = append(real, dir)
		}
	}
	slices.Sort(real)
	return slices.Compact(real), nil
}

// escape makes a name a pattern that matches it alone.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}
