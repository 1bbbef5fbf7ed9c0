package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tool runs a program in a folder and returns its standard output.
func tool(t testing.TB, dir, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, stderr.Bytes())
	}
	return string(out)
}

// writeOVA writes a raw file as an OVA.
func writeOVA(t testing.TB, raw string, opts OVAOptions) (path string, r Result) {
	t.Helper()
	f := create(t, "out.ova")
	results, err := Write(context.Background(), open(t, raw, OpenOptions{Format: Raw}), WriteOptions{}, NewOVAWriter(f, opts))
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), results[0]
}

// TestOVAJudged writes each disk as an OVA, has GNU tar and bsdtar list it,
// sha256sum verify its manifest, xmllint read its descriptor and qemu-img
// compare the disk that tar unpacks, then reads it back ourselves.
func TestOVAJudged(t *testing.T) {
	for _, disk := range testDisks() {
		t.Run(disk.name, func(t *testing.T) {
			t.Parallel()
			raw := rawFile(t, disk.size, disk.puts...)
			path, r := writeOVA(t, raw, OVAOptions{Name: "debian-12.1_x"})
			if st, err := os.Stat(path); err != nil || st.Size() != r.Size || r.Format != OVA {
				t.Errorf("result %+v, file of %d bytes (%v)", r, st.Size(), err)
			}
			want := "debian-12.1_x.ovf\ndebian-12.1_x.mf\ndebian-12.1_x-disk1.vmdk\n"
			dir := t.TempDir()
			for _, args := range [][]string{{"tar", "-tf", path}, {"bsdtar", "-tf", path}} {
				if got := tool(t, dir, "", args[0], args[1:]...); got != want {
					t.Errorf("%s lists %q, want %q", args[0], got, want)
				}
			}
			tool(t, dir, "", "tar", "-xf", path)
			manifest, err := os.ReadFile(filepath.Join(dir, "debian-12.1_x.mf"))
			if err != nil {
				t.Fatal(err)
			}
			// sha256sum reads the same lines with spaces.
			lines := strings.NewReplacer("SHA256(", "SHA256 (", ")= ", ") = ").Replace(string(manifest))
			if got := tool(t, dir, lines, "sha256sum", "--strict", "-c", "-"); strings.Count(got, ": OK") != 2 {
				t.Errorf("sha256sum says %q", got)
			}
			tool(t, dir, "", "xmllint", "--noout", "debian-12.1_x.ovf")
			vmdk := filepath.Join(dir, "debian-12.1_x-disk1.vmdk")
			if disk.size < 1<<40 {
				qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, vmdk)
			} else {
				compareData(t, disk, vmdk)
			}
			readBackOVA(t, raw, path)
		})
	}
}

// readBackOVA opens an OVA, checks it and compares it with its source.
func readBackOVA(t *testing.T, raw, path string) {
	t.Helper()
	ova := open(t, path, OpenOptions{RefuseRaw: true})
	if i := ova.Info(); i.Format != OVA || i.Subformat != string(VMDKStreamOptimized) || i.Compression != "deflate" {
		t.Errorf("info %+v", i)
	}
	src := open(t, raw, OpenOptions{Format: Raw})
	if src.Size() > 0 { // a VMDK has a sector at least
		sameDisk(t, src, ova)
	}
	cleanOVA(t, ova)
}

// cleanOVA wants Check to find nothing and to tell how far it is.
func cleanOVA(t *testing.T, ova *File) {
	t.Helper()
	last, all := int64(-1), int64(0)
	r, err := ova.Check(context.Background(), func(done, total int64) {
		if done < last || done > total || (all != 0 && total != all) {
			t.Errorf("progress %d of %d after %d of %d", done, total, last, all)
		}
		last, all = done, total
	})
	if err != nil || !r.OK() || r.Leaked != 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
	if last != all || all == 0 {
		t.Errorf("progress ended at %d of %d", last, all)
	}
}

// TestOVASameBytesForAnyJobs writes next to formats that share its work, and
// holds the digests against the files.
func TestOVASameBytesForAnyJobs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	raw := rawFile(t, 20<<20+99, put{5000, random(r, 7<<20, true)}, put{15 << 20, random(r, 3<<20, false)})
	var want []Result
	for _, jobs := range []int{1, 7} {
		files := []*os.File{create(t, "a"), create(t, "b"), create(t, "c")}
		if _, err := files[0].Write(bytes.Repeat([]byte("what was here"), 1000)); err != nil {
			t.Fatal(err)
		}
		got, err := Write(context.Background(), open(t, raw, OpenOptions{Format: Raw}), WriteOptions{Jobs: jobs},
			NewOVAWriter(files[0], OVAOptions{Name: "vm"}),
			NewQCOW2Writer(files[1], QCOW2Options{}),
			NewVMDKWriter(files[2], VMDKOptions{ExtentName: "vm-disk1.vmdk"}))
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			b, err := os.ReadFile(f.Name())
			if err != nil || hexSum(b) != got[i].SHA256 || int64(len(b)) != got[i].Size {
				t.Errorf("jobs %d, output %d: result %+v is not what the file holds (%v)", jobs, i, got[i], err)
			}
			if want != nil && got[i] != want[i] {
				t.Errorf("jobs %d, output %d: %+v, with one job %+v", jobs, i, got[i], want[i])
			}
		}
		// The VMDK inside is the one written alone.
		vmdk, err := os.ReadFile(files[2].Name())
		if err != nil {
			t.Fatal(err)
		}
		ova, err := os.ReadFile(files[0].Name())
		if err != nil || !bytes.Contains(ova, []byte("SHA256(vm-disk1.vmdk)= "+got[2].SHA256+"\n")) || !bytes.Contains(ova, vmdk) {
			t.Errorf("the package does not hold the VMDK of SHA-256 %s (%v)", got[2].SHA256, err)
		}
		want = got
	}
}

// TestOVATimestamp wants the time in the headers and nowhere else.
func TestOVATimestamp(t *testing.T) {
	raw := rawFile(t, 1<<20)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, "1970-01-01 00:00:00"},
		{time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("", 3600)), "2026-01-02 02:04:05"},
	} {
		path, _ := writeOVA(t, raw, OVAOptions{Name: "vm", Timestamp: c.at})
		got := tool(t, "", "", "tar", "--utc", "--full-time", "--numeric-owner", "-tvf", path)
		if strings.Count(got, c.want) != 3 || strings.Count(got, "-rw-r--r-- 0/0 ") != 3 {
			t.Errorf("tar lists %q, want the time %s and mode 0644 of 0/0", got, c.want)
		}
	}
}

func TestOVANoDigest(t *testing.T) {
	path, r := writeOVA(t, rawFile(t, 1<<20), OVAOptions{Name: "vm", NoDigest: true})
	if r.SHA256 != "" {
		t.Errorf("SHA-256 %s that nobody wanted", r.SHA256)
	}
	cleanOVA(t, open(t, path, OpenOptions{}))
}

func TestOVAOptionsAreChecked(t *testing.T) {
	src := open(t, rawFile(t, 4096), OpenOptions{Format: Raw})
	for want, o := range map[string]OVAOptions{
		`ova name ""`:                   {},
		`ova name "../vm"`:              {Name: "../vm"},
		`ova name ".vm"`:                {Name: ".vm"},
		`ova name "a b"`:                {Name: "a b"},
		`ova name "v*"`:                 {Name: "v*"},
		`ova name "vmvm`:                {Name: strings.Repeat("vm", 41)},
		"ova hardware version 9":        {Name: "vm", HardwareVersion: 9},
		"ova hardware version 100":      {Name: "vm", HardwareVersion: 100},
		"ova memory of 2050 MiB":        {Name: "vm", MemoryMiB: 2050},
		"ova memory of -4 MiB":          {Name: "vm", MemoryMiB: -4},
		"ova with -1 CPUs":              {Name: "vm", CPUs: -1},
		"ova with 769 CPUs":             {Name: "vm", CPUs: 769},
		`ova OS type "debian 12"`:       {Name: "vm", OSType: "debian 12"},
		`ova firmware "uefi"`:           {Name: "vm", Firmware: "uefi"},
		`ova network "a\nb"`:            {Name: "vm", Network: "a\nb"},
		`ova product "\x00"`:            {Name: "vm", Product: "\x00"},
		`ova annotation "\xff"`:         {Name: "vm", Annotation: "\xff"},
		`ova version "\ufffe"`:          {Name: "vm", Version: "\ufffe"},
		`ova vendor "xxxx`:              {Name: "vm", Vendor: strings.Repeat("x", maxOVAText+1)},
		"ova time stamp 1969-12-31T23:": {Name: "vm", Timestamp: time.Unix(-1, 0)},
		"ova time stamp 2242-":          {Name: "vm", Timestamp: time.Unix(1<<33, 0)},
	} {
		_, err := Write(context.Background(), src, WriteOptions{}, NewOVAWriter(create(t, "x"), o))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("options %.100v: %v, want %q", o, err, want)
		}
	}
}

// TestOVALargeMember has GNU tar and bsdtar read headers of files below and
// beyond what ustar can say, and us too.
func TestOVALargeMember(t *testing.T) {
	for _, size := range []int64{maxOctalField - 1, maxOctalField, 3 << 40} {
		header, err := tarHeader("vm-disk1.vmdk", size, time.Unix(0, 0))
		if err != nil || len(header) != tarBlock {
			t.Fatalf("header of %d bytes, %v", len(header), err)
		}
		wantMagic := "ustar\x0000"
		if size >= maxOctalField {
			wantMagic = "ustar  \x00"
		}
		if got := string(header[257:265]); got != wantMagic {
			t.Errorf("size %d: magic %q, want %q", size, got, wantMagic)
		}
		f := create(t, "large.tar")
		if _, err := f.Write(header); err != nil {
			t.Fatal(err)
		}
		total := tarBlock + padded(size) + 2*tarBlock
		if err := f.Truncate(total); err != nil {
			t.Fatal(err)
		}
		members, err := readTar(f, total)
		if err != nil || len(members) != 1 || members[0] != (member{"vm-disk1.vmdk", tarBlock, size}) {
			t.Errorf("read back %+v, %v", members, err)
		}
		for _, name := range []string{"tar", "bsdtar"} {
			if got := tool(t, "", "", name, "-tvf", f.Name()); !strings.Contains(got, fmt.Sprintf(" %d ", size)) {
				t.Errorf("%s lists %q, want size %d", name, got, size)
			}
		}
	}
}

// TestOVAHeadIsWrittenLast: a package whose disk did not fit is no archive.
func TestOVAHeadIsWrittenLast(t *testing.T) {
	raw := rawFile(t, 8<<20, put{0, random(rand.New(rand.NewPCG(1, 1)), 8<<20, false)})
	src := open(t, raw, OpenOptions{Format: Raw})
	f := create(t, "x")
	_, err := Write(context.Background(), src, WriteOptions{}, NewOVAWriter(&brokenTarget{f, 3 << 20}, OVAOptions{Name: "vm"}))
	if !errors.Is(err, errFull) {
		t.Errorf("full target: %v", err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if format, err := Detect(f, st.Size()); err != nil || format != Raw {
		t.Errorf("what is left is %q (%v)", format, err)
	}
}

// TestOVAPopulatedSize counts whole grains that are not zero.
func TestOVAPopulatedSize(t *testing.T) {
	raw := rawFile(t, 10<<20+1, put{100, []byte{1}}, put{3<<16 - 1, []byte{1, 1}}, put{10 << 20, []byte{1}}, put{5 << 20, make([]byte, 1<<20)})
	path, r := writeOVA(t, raw, OVAOptions{Name: "vm"})
	ovf := tool(t, "", "", "tar", "-xOf", path, "vm.ovf")
	for _, want := range []string{`ovf:populatedSize="262144"`, `ovf:capacity="10486272"`} {
		if !strings.Contains(ovf, want) {
			t.Errorf("descriptor without %s:\n%s", want, ovf)
		}
	}
	if r.Size%tarBlock != 0 {
		t.Errorf("archive of %d bytes", r.Size)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
