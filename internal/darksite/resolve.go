package darksite

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/run"
)

// modulesStub is dpkg's status while upstream is asked: it stands for the ZFS
// modules we compile, so that apt does not choose zfs-dkms and a compiler for
// the packages that depend on zfs-modules.
const modulesStub = `Package: kldload-zfs-modules-stub
Status: install ok installed
Architecture: all
Version: 1
Provides: zfs-modules
Maintainer: none
Description: stands for zfs-modules-ABI, which the darksite adds

`

// baseArgs name what any system of a release has: mmdebstrap's variants
// "minbase" and "apt" (apt-patterns(7)).
func baseArgs() []string { return []string{"?essential", "?priority(required)", "apt"} }

// remote is a package as upstream offers it.
type remote struct {
	Package
	uri    string
	wanted string // who asked: "profile core, generic kernel"
}

// upstream is a private apt root that has read the mirrors.
type upstream struct {
	*aptRoot
	settings string
	sources  []source
	epoch    int64
}

func (q *request) openUpstream(ctx context.Context) (*upstream, error) {
	st := q.UI.Stage("mirror")
	sources, err := q.sources(ctx)
	if err != nil {
		st.Fail()
		return nil, err
	}
	u := &upstream{sources: sources}
	if u.settings, err = hostFetchSettings(ctx); err == nil {
		installed := modulesStub
		if len(q.Kernels) == 0 {
			installed = "" // no modules of ours either: the closure stays apt's
		}
		u.aptRoot, err = newAptRoot(q.Arch, sources, u.settings, installed)
	}
	if err == nil {
		st.Progress(0, 0, "reading the package indexes")
		err = u.update(ctx)
	}
	if err == nil {
		u.epoch, err = u.newestRelease()
	}
	if err != nil {
		st.Fail()
		if u.aptRoot != nil {
			u.Close()
		}
		return nil, err
	}
	st.Done(fmt.Sprintf("%d suites, signatures verified, of %s", len(sources), time.Unix(u.epoch, 0).UTC().Format(time.RFC3339)))
	return u, nil
}

// newestRelease is the newest Date of the Release files.
func (u *upstream) newestRelease() (int64, error) {
	files, err := u.releases()
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, data := range files {
		for _, st := range parseStanzas(data)[:1] {
			at, err := time.Parse(time.RFC1123, strings.Replace(st.get("Date"), "+0000", "UTC", 1))
			if err != nil {
				return 0, fmt.Errorf("reading a Release file: Date: %w", err)
			}
			newest = max(newest, at.Unix())
		}
	}
	if newest == 0 {
		return 0, fmt.Errorf("reading the package indexes: no Release file with a Date")
	}
	return newest, nil
}

// checkNames makes sure that upstream has every package the lists name.
func (u *upstream) checkNames(ctx context.Context, release string, entries []distro.Entry) error {
	args := []string{"apt-cache", "policy"}
	for _, e := range entries {
		args = append(args, e.Name)
	}
	out, err := u.output(ctx, "looking up the listed packages", args...)
	if err != nil {
		return err
	}
	have, name := map[string]bool{}, ""
	for _, line := range strings.Split(string(out), "\n") {
		if n, ok := strings.CutSuffix(line, ":"); ok && !strings.HasPrefix(line, " ") {
			name = n
		}
		if v, ok := strings.CutPrefix(line, "  Candidate: "); ok && v != "(none)" {
			have[name] = true
		}
	}
	var missing []string
	for _, e := range entries {
		if !have[e.Name] {
			missing = append(missing, fmt.Sprintf("%s (%s)", e.Name, e.From))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the mirrors of %s have no package %s\nhint: correct the list (or override it with --package-dir), or add a mirror that has it",
		release, strings.Join(slices.Compact(missing), ", "))
}

// resolve asks apt for the closure of names and adds it to set by package name.
func (u *upstream) resolve(ctx context.Context, set map[string]remote, wanted string, names []string) error {
	args := append(baseArgs(), names...)
	out, err := run.Output(ctx, u.cmd("resolving "+wanted, append([]string{"apt-get", "-qq", "--print-uris", "install"}, args...)...))
	if err != nil {
		// Only the simulation says why.
		if _, why := u.output(ctx, "resolving "+wanted, append([]string{"apt-get", "-q", "--simulate", "install"}, args...)...); why != nil {
			err = why
		}
		return err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		r, err := parseURI(line)
		if err != nil {
			return fmt.Errorf("resolving %s: %w", wanted, err)
		}
		r.wanted = wanted
		if old, ok := set[r.Name]; ok && old.SHA256 != r.SHA256 {
			return fmt.Errorf("resolving %s: %s %s, but %s wants %s", wanted, r.Name, r.Version, old.wanted, old.Version)
		} else if !ok {
			set[r.Name] = r
		}
	}
	return nil
}

// parseURI reads a line of apt-get --print-uris:
// 'URI' NAME_VERSION_ARCH.deb SIZE SHA256:HEX
func parseURI(line string) (remote, error) {
	f := strings.Fields(line)
	if len(f) != 4 || len(f[0]) < 3 || !strings.HasPrefix(f[3], "SHA256:") {
		return remote{}, fmt.Errorf("apt-get printed %q, want 'URI' FILE SIZE SHA256:…", line)
	}
	r := remote{uri: strings.Trim(f[0], "'")}
	parts := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
	size, err := strconv.ParseInt(f[2], 10, 64)
	if len(parts) != 3 || err != nil {
		return remote{}, fmt.Errorf("apt-get printed %q, want 'URI' NAME_VERSION_ARCH.deb SIZE SHA256:…", line)
	}
	r.Name, r.Architecture, r.Size = parts[0], parts[2], size
	if r.Version, err = url.PathUnescape(parts[1]); err != nil {
		return remote{}, err
	}
	r.SHA256 = strings.TrimPrefix(f[3], "SHA256:")
	base, err := url.PathUnescape(path.Base(r.uri))
	if err != nil {
		return remote{}, err
	}
	r.Filename = poolName(r.Name, base)
	return r, nil
}

// poolName is where a package lies, by the rule of Debian's pool.
func poolName(pkg, file string) string {
	prefix := pkg[:1]
	if strings.HasPrefix(pkg, "lib") && len(pkg) > 3 {
		prefix = pkg[:4]
	}
	return path.Join("pool/main", prefix, pkg, file)
}

// show reads the index entry of a package's candidate version.
func (u *upstream) show(ctx context.Context, pkg string) (stanza, error) {
	out, err := u.output(ctx, "looking up "+pkg, "apt-cache", "show", "--no-all-versions", pkg)
	if err != nil {
		return stanza{}, err
	}
	for _, st := range parseStanzas(out) {
		if st.get("Package") == pkg {
			return st, nil
		}
	}
	return stanza{}, fmt.Errorf("looking up %s: the mirrors have no such package", pkg)
}
