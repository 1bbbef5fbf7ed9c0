package scan

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// place is an odd place for a secret: it puts content below dir.
type place struct {
	kind, path string // path of the finding
	put        func(p *placer, secret string)
}

// placer puts one secret in one place, with the tools that make such files.
type placer struct {
	t    *testing.T
	m    maker
	dir  string
	path string // of the file to make
}

func (p *placer) file(name string, content []byte) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// run runs a tool, in a folder of its own that the scan does not see.
func (p *placer) run(dir, stdin, name string, args ...string) []byte {
	p.t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Stdin = dir, strings.NewReader(stdin)
	var out, diag bytes.Buffer
	c.Stdout, c.Stderr = &out, &diag
	if err := c.Run(); err != nil {
		p.t.Fatalf("%s %v: %v\n%s\nhint: scripts/deps.sh installs the tools of tests", name, args, err, diag.String())
	}
	return out.Bytes()
}

// filtered is content through a compressor's stdin and stdout.
func filtered(name string, args ...string) func(*placer, string) {
	return func(p *placer, secret string) {
		p.file(p.path, p.run(p.dir, logLines(secret), name, args...))
	}
}

func logLines(secret string) string {
	line := "Nov 24 00:00:00 host app[1]: nothing to see here\n"
	return strings.Repeat(line, 200) + secret + strings.Repeat(line, 200)
}

func (p *placer) tar(name, content string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, text string }{{"./usr/share/x", "x"}, {name, content}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text))}); err != nil {
			p.t.Fatal(err)
		}
		_, _ = w.Write([]byte(f.text))
	}
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

func (p *placer) zip(name string, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = f.Write(content)
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

func (p *placer) gzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	return out.Bytes()
}

// ar is one member more than Debian's control files have.
func (p *placer) ar(name string, content []byte) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, f := range []struct {
		name string
		text []byte
	}{{"debian-binary", []byte("2.0\n")}, {name, content}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", f.name, 0, 0, 0, "100644", len(f.text))
		b.Write(f.text)
		if len(f.text)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func (p *placer) cpio(name, content string) []byte {
	dir := p.t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return p.run(dir, name+"\n", "cpio", "-o", "-H", "newc", "--quiet")
}

func utf16Bytes(s string, order binary.ByteOrder, mark bool) []byte {
	var b bytes.Buffer
	if mark {
		_ = binary.Write(&b, order, uint16(0xfeff))
	}
	_ = binary.Write(&b, order, utf16.Encode([]rune(s)))
	return b.Bytes()
}

func (p *placer) sqlite(script string) {
	path := filepath.Join(p.dir, p.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.run(p.dir, script, "sqlite3", path)
}

// git makes a repository of two commits, the secret in the first alone, and
// packs it or not.
func (p *placer) git(secret string, packed bool) {
	dir := filepath.Join(p.dir, p.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	git := func(args ...string) {
		p.run(dir, "", "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.net", "-c", "init.defaultBranch=main"}, args...)...)
	}
	git("init", "-q")
	text := logLines("")
	for i, content := range []string{text, text + secret, text + "gone\n"} {
		if err := os.WriteFile(filepath.Join(dir, "notes"), []byte(content), 0o644); err != nil {
			p.t.Fatal(err)
		}
		git("add", "notes")
		git("commit", "-q", "-m", fmt.Sprint("change ", i))
	}
	if packed {
		git("repack", "-adfq", "--depth=10")
		git("prune-packed")
	}
}

// journal has a message of three lines: the export format needs its length.
func (p *placer) journal(secret string) {
	message := logLines(secret)
	var b bytes.Buffer
	fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=1700000000000000\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=%s\nMESSAGE\n", p.m.chars(hexes, 32))
	_ = binary.Write(&b, binary.LittleEndian, uint64(len(message)))
	b.WriteString(message + "\n\n")
	path := filepath.Join(p.dir, p.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.run(p.dir, b.String(), "/usr/lib/systemd/systemd-journal-remote", "-o", path, "--compress=yes", "-")
}

func places() []place {
	direct := func(make func(p *placer, secret string) []byte) func(*placer, string) {
		return func(p *placer, secret string) { p.file(p.path, make(p, secret)) }
	}
	return append(packedPlaces(direct), []place{
		{"SQLite value on several pages", "var/lib/app/a.db", func(p *placer, s string) {
			p.sqlite("pragma page_size=512; create table t(k text, v text); insert into t values('x', '" + strings.Repeat("y", 300) + "\n" + s + "');\n")
		}},
		{"SQLite row that was deleted", "var/lib/app/b.db", func(p *placer, s string) {
			p.sqlite("pragma secure_delete=off; create table t(k text, v text); insert into t values('x', '" + s + "'); delete from t;\n")
		}},
		{"journal, compressed field", "var/log/journal/x/system.journal", func(p *placer, s string) { p.journal(s) }},
		{"git object", "srv/loose", func(p *placer, s string) { p.git(s, false) }},
		{"git pack, as a difference", "srv/packed", func(p *placer, s string) { p.git(s, true) }},
		{"UTF-16 with a mark", "home/ops/win.txt", direct(func(_ *placer, s string) []byte { return utf16Bytes(s, binary.LittleEndian, true) })},
		{"UTF-16, big-endian, no mark", "home/ops/be.txt", direct(func(_ *placer, s string) []byte {
			return utf16Bytes("some text before it\n"+s, binary.BigEndian, false)
		})},
		{"base64 in YAML", "etc/app/secret.yaml", direct(func(_ *placer, s string) []byte {
			return []byte("data:\n  key: " + base64.StdEncoding.EncodeToString([]byte(s)) + "\n")
		})},
		{"base64, wrapped and indented", "etc/app/write_files.yaml", direct(func(_ *placer, s string) []byte {
			var b strings.Builder
			b.WriteString("content: |\n")
			for enc := base64.StdEncoding.EncodeToString([]byte(s)); enc != ""; {
				n := min(76, len(enc))
				b.WriteString("      " + enc[:n] + "\n")
				enc = enc[n:]
			}
			return []byte(b.String())
		})},
		{"gzip in base64 in YAML", "etc/app/gz.yaml", direct(func(p *placer, s string) []byte {
			return []byte("encoding: gz+b64\ncontent: " + base64.StdEncoding.EncodeToString(p.gzip([]byte(s))) + "\n")
		})},
		{"base64 in base64", "etc/app/twice.yaml", direct(func(_ *placer, s string) []byte {
			once := base64.StdEncoding.EncodeToString([]byte(s))
			return []byte(base64.StdEncoding.EncodeToString([]byte("data: " + once + "\n")))
		})},
		{"program", "usr/local/bin/agent", direct(func(p *placer, s string) []byte {
			noise := []byte(strings.Repeat("\x00\x01\xff\x7fabc", 5000))
			return append(append(append([]byte("\x7fELF"), noise...), s...), noise...)
		})},
		{"border of two chunks", "var/lib/app/big", direct(func(_ *placer, s string) []byte {
			return []byte(strings.Repeat("a line of no interest, again and again\n", (chunkSize-margin)/39) + s + strings.Repeat("more\n", chunkSize))
		})},
		{"end of a large file", "var/lib/app/large", direct(func(_ *placer, s string) []byte {
			return append(bytes.Repeat([]byte("no interest\x00"), maxMemory/8), s...)
		})},
	}...)
}

// packedPlaces are compressors and archives.
func packedPlaces(direct func(func(p *placer, secret string) []byte) func(*placer, string)) []place {
	return []place{
		{"gzip", "var/log/syslog.2.gz", direct(func(p *placer, s string) []byte { return p.gzip([]byte(logLines(s))) })},
		{"xz", "var/log/syslog.3.xz", filtered("xz", "-c")},
		{"zstd", "var/log/syslog.4.zst", filtered("zstd", "-qc")},
		{"bzip2", "var/log/syslog.5.bz2", filtered("bzip2", "-c")},
		{"lz4", "var/log/syslog.6.lz4", filtered("lz4", "-qc")},
		{"lz4, legacy frames", "var/log/syslog.7.lz4", filtered("lz4", "-qlc")},
		{"large gzip", "var/log/huge.gz", direct(func(p *placer, s string) []byte {
			return p.gzip(append(bytes.Repeat([]byte("nothing to see here\n"), 1<<19), s...))
		})},
		{"tar", "root/home.tar", direct(func(p *placer, s string) []byte { return p.tar("home/ops/key", s) })},
		{"tar.gz in a zip", "root/backup.zip", direct(func(p *placer, s string) []byte {
			return p.zip("home.tgz", p.gzip(p.tar("home/ops/key", s)))
		})},
		{"Java archive", "opt/app/app.jar", direct(func(p *placer, s string) []byte { return p.zip("META-INF/application.properties", []byte(s)) })},
		{"Debian package", "var/cache/apt/archives/x_1_all.deb", direct(func(p *placer, s string) []byte {
			return p.ar("data.tar.xz", p.run(p.dir, string(p.tar("./opt/app/key", s)), "xz", "-c"))
		})},
		{"initramfs behind microcode", "boot/initrd.img-6.1", direct(func(p *placer, s string) []byte {
			main := p.run(p.dir, string(p.cpio("etc/app/key", s)), "zstd", "-qc")
			return append(append(p.cpio("kernel/x86/microcode/x.bin", "micro"), make([]byte, 512)...), main...)
		})},
		{"cpio, uncompressed", "root/x.cpio", direct(func(p *placer, s string) []byte { return p.cpio("etc/app/key", s) })},
	}
}
