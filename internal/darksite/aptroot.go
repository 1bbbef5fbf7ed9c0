package darksite

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kldload/kldload/internal/run"
)

// aptRoot is an apt world of its own in a temporary folder: its own sources,
// lists, state and trust. The host's are neither read nor written.
type aptRoot struct{ dir string }

// newAptRoot makes one that believes in sources alone. settings are further
// apt.conf lines; installed is the text of dpkg's status file. The caller
// removes it with Close.
func newAptRoot(arch string, sources []source, settings, installed string) (*aptRoot, error) {
	dir, err := os.MkdirTemp("", "kldload-apt-")
	if err != nil {
		return nil, fmt.Errorf("making a private apt root: %w", err)
	}
	r := &aptRoot{dir: dir}
	for _, sub := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d",
		"etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg", "var/log/apt"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("making a private apt root: %w", err)
		}
	}
	var list strings.Builder
	for _, s := range sources {
		list.WriteString(s.stanza())
	}
	conf := fmt.Sprintf("%sDir %q;\nDir::State::status %q;\n#clear APT::Architectures;\nAPT::Architecture %q;\n"+
		"APT::Architectures { %q; };\nAPT::Install-Recommends \"false\";\nAPT::Install-Suggests \"false\";\n"+
		"APT::Sandbox::User \"root\";\nAcquire::Languages { \"none\"; };\nAPT::Get::Assume-Yes \"true\";\n"+
		"Acquire::ForceHash \"SHA256\";\n",
		settings, dir+"/", filepath.Join(dir, "var/lib/dpkg/status"), arch, arch)
	for name, text := range map[string]string{
		"apt.conf": conf, "var/lib/dpkg/status": installed, "etc/apt/sources.list.d/darksite.sources": list.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("making a private apt root: %w", err)
		}
	}
	return r, nil
}

// Close removes the root.
func (r *aptRoot) Close() error { return os.RemoveAll(r.dir) }

// cmd runs an apt tool in the root. The child dies with us, even by kill -9:
// apt keeps no half file under a final name, but two must not write at once.
func (r *aptRoot) cmd(doing string, args ...string) run.Cmd {
	env := []string{"APT_CONFIG=" + filepath.Join(r.dir, "apt.conf"), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "APT_CONFIG=") && !strings.HasPrefix(kv, "LC_ALL=") {
			env = append(env, kv)
		}
	}
	return run.Cmd{Doing: doing, Args: args, Env: env, SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
}

// output runs an apt tool and gives its standard output, which is also
// added to the error: apt explains a failed resolution there.
func (r *aptRoot) output(ctx context.Context, doing string, args ...string) ([]byte, error) {
	out, err := run.Output(ctx, r.cmd(doing, args...))
	if err != nil {
		if said := lastLines(out, 12); said != "" {
			err = fmt.Errorf("%w\n  %s", err, strings.ReplaceAll(said, "\n", "\n  "))
		}
	}
	return out, err
}

func lastLines(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// update reads the sources' indexes and checks their signatures; any source
// that is not there or not signed is an error.
func (r *aptRoot) update(ctx context.Context) error {
	return run.Run(ctx, r.cmd("reading the package indexes", "apt-get", "-q", "--error-on=any", "update"))
}

// releases gives the text of each Release file that update read.
func (r *aptRoot) releases() ([][]byte, error) {
	var out [][]byte
	for _, pattern := range []string{"*_InRelease", "*_Release"} {
		files, err := filepath.Glob(filepath.Join(r.dir, "var/lib/apt/lists", pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			// A clear-signed file has its armour header as a paragraph.
			if _, body, ok := bytes.Cut(data, []byte("\n\n")); ok && bytes.HasPrefix(data, []byte("-----BEGIN PGP")) {
				data = body
			}
			out = append(out, data)
		}
	}
	return out, nil
}

// fetchSettings are the prefixes of the host's apt settings that are needed
// to reach a mirror; its trust and its sources are not among them.
func fetchSettings() []string {
	return []string{"Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::tor", "Acquire::Proxy-Auto-Detect",
		"Acquire::Retries", "Acquire::ForceIPv4", "Acquire::ForceIPv6", "Acquire::Queue-Mode",
		"Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::By-Hash"}
}

// hostFetchSettings copies how the host reaches mirrors (proxies, time-outs,
// credentials) as apt.conf lines.
func hostFetchSettings(ctx context.Context) (string, error) {
	out, err := run.Output(ctx, run.Cmd{Doing: "reading the host's apt configuration", Args: []string{"apt-config", "dump", "--no-empty"}})
	if err != nil {
		return "", err
	}
	var keep strings.Builder
	for _, line := range strings.Split(string(out), "\n") {
		name, _, _ := strings.Cut(line, " ")
		for _, prefix := range fetchSettings() {
			if name == prefix || strings.HasPrefix(name, prefix+"::") {
				keep.WriteString(line + "\n")
			}
		}
	}
	for _, key := range []string{"Dir::Etc::netrc/f", "Dir::Etc::netrcparts/d"} {
		path, err := aptPath(ctx, key)
		if err != nil {
			return "", err
		}
		if f, err := os.Open(path); err == nil {
			f.Close()
			fmt.Fprintf(&keep, "%s %q;\n", strings.TrimRight(key[:len(key)-2], "/"), strings.TrimRight(path, "/"))
		}
	}
	return keep.String(), nil
}
