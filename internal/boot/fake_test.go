package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain makes the test binary, called by another name, one of the commands
// that the scripts run.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if run := fakes[name]; run != nil {
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var fakes = map[string]func([]string) error{
	"zfs": fakeZFS, "zpool": record, "bootctl": record, "mount": fakeMount, "umount": fakeUmount,
	"findmnt":    func([]string) error { return say(os.Getenv("FAKE_ROOT")) },
	"mountpoint": func([]string) error { return nil },
	"id":         func([]string) error { return say("0") },
	"df":         func([]string) error { return say("Avail\n" + os.Getenv("FAKE_AVAIL")) },
}

func say(text string) error {
	_, err := fmt.Println(text)
	return err
}

// record notes the command line in the file "log" of the state.
func record(args []string) error {
	f, err := os.OpenFile(statePath("log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, filepath.Base(os.Args[0]), strings.Join(args, " "))
	return errors.Join(err, f.Close())
}

func statePath(name string) string { return filepath.Join(os.Getenv("FAKE_STATE"), name) }

// treeOf is the folder with a dataset's or snapshot's files.
func treeOf(name string) string { return statePath(strings.ReplaceAll(name, "/", "%")) }

// pool is what the fake zfs knows; a snapshot's name has an "@".
type pool struct {
	Names  []string // in order of creation
	Origin map[string]string
	Local  map[string][]string // "property\tvalue"
}

func (p *pool) save() error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(statePath("pool"), b, 0o644)
}

func loadPool() (*pool, error) {
	p := &pool{Origin: map[string]string{}, Local: map[string][]string{}}
	b, err := os.ReadFile(statePath("pool"))
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	return p, err
}

func (p *pool) clones(snap string) []string {
	var out []string
	for _, n := range p.Names {
		if p.Origin[n] == snap {
			out = append(out, n)
		}
	}
	return out
}

// add makes a dataset or snapshot with a copy of another's files.
func (p *pool) add(name, from string) error {
	if slices.Contains(p.Names, name) {
		return fmt.Errorf("%s exists", name)
	}
	p.Names = append(p.Names, name)
	return errors.Join(exec.Command("cp", "-a", treeOf(from), treeOf(name)).Run(), p.save())
}

func (p *pool) destroy(name string, all bool) error {
	for _, n := range slices.Clone(p.Names) {
		if n != name && (!all || !strings.HasPrefix(n, name+"@")) {
			continue
		}
		if len(p.clones(n)) > 0 || n == name && !all && !strings.Contains(n, "@") && p.hasSnapshots(n) {
			return fmt.Errorf("%s has dependents", n)
		}
		p.Names = slices.DeleteFunc(p.Names, func(s string) bool { return s == n })
		delete(p.Origin, n)
	}
	return p.save()
}

func (p *pool) hasSnapshots(name string) bool {
	return slices.ContainsFunc(p.Names, func(n string) bool { return strings.HasPrefix(n, name+"@") })
}

// promote gives the snapshots up to the origin to the clone.
func (p *pool) promote(name string) error {
	origin := p.Origin[name]
	from, _, _ := strings.Cut(origin, "@")
	for i, n := range p.Names {
		if fs, snap, ok := strings.Cut(n, "@"); ok && fs == from {
			p.Names[i] = name + "@" + snap
			if err := os.Rename(treeOf(n), treeOf(p.Names[i])); err != nil {
				return err
			}
			for _, c := range p.clones(n) {
				p.Origin[c] = p.Names[i]
			}
			if n == origin {
				p.Origin[from] = p.Names[i]
				delete(p.Origin, name)
				break
			}
		}
	}
	return p.save()
}

func fakeZFS(args []string) error {
	p, err := loadPool()
	if err != nil {
		return err
	}
	last := args[len(args)-1]
	switch args[0] {
	case "snapshot":
		from, _, _ := strings.Cut(last, "@")
		return p.add(last, from)
	case "clone":
		for i, a := range args {
			if a == "-o" {
				p.Local[last] = append(p.Local[last], strings.Replace(args[i+1], "=", "\t", 1))
			}
		}
		p.Origin[last] = args[len(args)-2]
		return p.add(last, args[len(args)-2])
	case "destroy":
		return p.destroy(last, args[1] == "-r")
	case "promote":
		return p.promote(last)
	case "get":
		return p.get(args, last)
	case "list":
		return p.list(args, last)
	}
	return fmt.Errorf("unexpected %q", args)
}

func (p *pool) get(args []string, name string) error {
	switch property := args[len(args)-2]; property {
	case "all":
		return say(strings.Join(p.Local[name], "\n"))
	case "origin":
		if o := p.Origin[name]; o != "" {
			return say(o)
		}
		return say("-")
	case "clones":
		return say(strings.Join(p.clones(name), ","))
	default: // used, creation
		return say("1700000000")
	}
}

func (p *pool) list(args []string, name string) error {
	if !slices.Contains(p.Names, name) {
		return fmt.Errorf("no dataset %s", name)
	}
	has := func(a string) bool { return slices.Contains(args, a) }
	var out []string
	for _, n := range p.Names {
		fs, _, snap := strings.Cut(n, "@")
		below := has("-d") || has("-r") || has("-ro")
		if snap != has("snapshot") || n != name && !(below && (fs == name || strings.HasPrefix(fs, name+"/") && (has("-r") || !snap))) {
			continue
		}
		if has("clones") {
			n = strings.Join(p.clones(n), ",")
		}
		out = append(out, n)
	}
	if has("-S") {
		slices.Reverse(out)
	}
	return say(strings.Join(out, "\n"))
}

// fakeMount takes "-t zfs -o zfsutil DATASET DIR".
func fakeMount(args []string) error {
	dataset, dir := args[4], args[5]
	return errors.Join(
		os.WriteFile(statePath("mounted"), []byte(dataset), 0o644),
		exec.Command("cp", "-a", treeOf(dataset)+"/.", dir).Run())
}

func fakeUmount(args []string) error {
	dataset, err := os.ReadFile(statePath("mounted"))
	if err != nil {
		return err
	}
	return exec.Command("sh", "-c", `rm -rf "$1" && cp -a "$2" "$1" && rm -rf "$2"/* && rmdir "$2" && mkdir "$2"`, "sh", treeOf(string(dataset)), args[0]).Run()
}
