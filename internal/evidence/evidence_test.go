package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	statementv1 "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"
	"google.golang.org/protobuf/encoding/protojson"
)

func newKey(t *testing.T) (*Key, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys", "signing.key")
	k, err := Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	return k, name
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// tool runs a judge; its failure is an error with what it said.
func tool(t *testing.T, args ...string) error {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%v: scripts/deps.sh installs it", err)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return errors.New(strings.Join(args, " ") + ": " + err.Error() + "\n" + string(out))
	}
	return nil
}

func TestKeys(t *testing.T) {
	k, name := newKey(t)
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", st.Mode(), err)
	}
	again, err := Load(name)
	if err != nil || !again.secret.Equal(k.secret) {
		t.Error("another key is read back:", err)
	}
	if _, err := Generate(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing key: %v", err)
	}
	public := write(t, name+".pub", k.Public.PEM())
	for _, file := range []string{public, name} {
		if p, err := LoadPublic(file); err != nil || p.Fingerprint() != k.Public.Fingerprint() {
			t.Errorf("public key of %q: %v", file, err)
		}
	}
	if err := tool(t, "openssl", "pkey", "-in", name, "-check", "-noout"); err != nil {
		t.Error(err)
	}
	theirs := filepath.Join(t.TempDir(), "openssl.key")
	if err := tool(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(theirs); err != nil {
		t.Error("a key of openssl:", err)
	}
}

func TestWrongKeys(t *testing.T) {
	k, name := newKey(t)
	dir := t.TempDir()
	in := func(n string) string { return filepath.Join(dir, n) }
	for _, args := range [][]string{
		{"openssl", "pkey", "-in", name, "-aes256", "-passout", "pass:x", "-out", in("locked")},
		{"openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", in("rsa")},
		{"openssl", "genrsa", "-traditional", "-out", in("old"), "1024"},
	} {
		if err := tool(t, args...); err != nil {
			t.Fatal(err)
		}
	}
	write(t, in("text"), []byte("no key"))
	write(t, in("public"), k.Public.PEM())
	write(t, in("bad"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("AAA")}))
	write(t, in("large"), make([]byte, maxKey+1))
	for file, want := range map[string]string{
		"locked": "it has a passphrase", "rsa": "want Ed25519", "old": `PEM type "RSA PRIVATE KEY"`, "text": "no PEM",
		"public": "it is a public key", "bad": "PKCS#8", "large": "no key", "nothing": "no such file", "": "not a regular file",
	} {
		if file != "" && file != "nothing" {
			if err := os.Chmod(in(file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Load(in(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", file, err, want)
		}
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || !strings.Contains(err.Error(), "mode 0640 lets others read it\nhint: chmod 600") {
		t.Errorf("a key for the group: %v", err)
	}
}

func TestOwn(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	first, name, made, err := Own()
	if err != nil || !made || !strings.HasSuffix(name, "/kldload/keys/signing.key") {
		t.Fatal(name, made, err)
	}
	second, _, made, err := Own()
	if err != nil || made || second.Public.Fingerprint() != first.Public.Fingerprint() {
		t.Error(made, err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Own(); err == nil {
		t.Error("a key that others read is used")
	}
}

// TestOpenSSL has openssl judge a detached signature.
func TestOpenSSL(t *testing.T) {
	k, name := newKey(t)
	other, _ := newKey(t)
	dir := t.TempDir()
	data := []byte("{\"bom\": true}\n")
	file, sig := write(t, filepath.Join(dir, "f"), data), write(t, filepath.Join(dir, "f.sig"), k.Sign(data))
	public := write(t, filepath.Join(dir, "pub"), k.Public.PEM())
	verify := func(public string) error {
		return tool(t, "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", file, "-sigfile", sig)
	}
	if err := verify(public); err != nil {
		t.Error(err)
	}
	if err := k.Public.Verify(data, []byte(base64.StdEncoding.EncodeToString(k.Sign(data))+"\n")); err != nil {
		t.Error("a signature in base64:", err)
	}
	if verify(write(t, filepath.Join(dir, "other"), other.Public.PEM())) == nil || other.Public.Verify(data, k.Sign(data)) == nil {
		t.Error("another key verifies it, too")
	}
	data[3] ^= 1
	write(t, file, data)
	if verify(public) == nil || k.Public.Verify(data, k.Sign([]byte("{\"bom\": true}\n"))) == nil {
		t.Error("a changed byte goes unnoticed")
	}
	theirs := filepath.Join(dir, "theirs")
	if err := tool(t, "openssl", "pkeyutl", "-sign", "-inkey", name, "-rawin", "-in", file, "-out", theirs); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(theirs); err != nil || !bytes.Equal(text, k.Sign(data)) {
		t.Error("openssl signs otherwise:", err)
	}
}

func TestMinisign(t *testing.T) {
	k, _ := newKey(t)
	other, _ := newKey(t)
	dir := t.TempDir()
	data := bytes.Repeat([]byte("image "), 1<<18)
	file := write(t, filepath.Join(dir, "f.qcow2"), data)
	text, err := k.SignMinisign(bytes.NewReader(data), "f.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	write(t, file+MinisignSuffix, text)
	public := write(t, filepath.Join(dir, "pub"), k.Public.Minisign())
	if err := tool(t, "minisign", "-V", "-p", public, "-m", file); err != nil {
		t.Error(err)
	}
	if tool(t, "minisign", "-V", "-p", write(t, filepath.Join(dir, "other"), other.Public.Minisign()), "-m", file) == nil {
		t.Error("another key verifies it, too")
	}
	write(t, file+MinisignSuffix, bytes.Replace(text, []byte("file:f"), []byte("file:g"), 1))
	if tool(t, "minisign", "-V", "-p", public, "-m", file) == nil {
		t.Error("a changed comment goes unnoticed")
	}
	write(t, file+MinisignSuffix, text)
	data[1000] ^= 1
	write(t, file, data)
	if tool(t, "minisign", "-V", "-p", public, "-m", file) == nil {
		t.Error("a changed byte goes unnoticed")
	}
	if _, err := k.SignMinisign(bytes.NewReader(data), "a\nb"); err == nil {
		t.Error("a name of two lines is signed")
	}
}

var build = Build{
	Subjects:  []Resource{File("golden.raw", strings.Repeat("ab", 32)), File("golden.cdx.json", strings.Repeat("cd", 32))},
	Name:      "kldload.golden",
	Variables: json.RawMessage(`{"token":"<sensitive>"}`),
	Formats:   []string{"raw"},
	Epoch:     1_700_000_000,
	Inputs:    []Input{{"golden.pkr.hcl", "template", strings.Repeat("01", 32)}, {"secret.pkrvars.hcl", "variables", ""}},
	Darksite:  "sha256:" + strings.Repeat("ef", 32),
	Git:       &Git{"https://example.org/images.git", strings.Repeat("1234abcd", 5), true},
	Version:   "1.2.3",
}

// TestProvenance has in-toto's own types read a statement, strictly.
func TestProvenance(t *testing.T) {
	s, err := Provenance(build)
	if err != nil {
		t.Fatal(err)
	}
	text, err := marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"<sensitive>"`)) {
		t.Errorf("not readable: %s", text)
	}
	var theirs statementv1.Statement
	if err := protojson.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Validate(); err != nil {
		t.Error(err)
	}
	predicate, err := protojson.Marshal(theirs.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var p provenancev1.Provenance
	if err := protojson.Unmarshal(predicate, &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	var names []string
	for _, r := range append(theirs.GetSubject(), p.GetBuildDefinition().GetResolvedDependencies()...) {
		names = append(names, r.GetName())
	}
	if diff := cmp.Diff([]string{"golden.cdx.json", "golden.raw", "darksite", "template"}, names); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{`"_type":"https://in-toto.io/Statement/v2"`, `"_type":"https://in-toto.io/Statement/v1","more":1`} {
		var s statementv1.Statement
		changed := bytes.Replace(text, []byte(`"_type":"https://in-toto.io/Statement/v1"`), []byte(wrong), 1)
		if protojson.Unmarshal(changed, &s) == nil && s.Validate() == nil {
			t.Errorf("the judge has nothing against %s", wrong)
		}
	}
	if _, err := Provenance(Build{}); err == nil {
		t.Error("a provenance of nothing")
	}
}

// verifiers are the independent DSSE library with a key by in-toto's name, and
// by the one that cosign uses.
func verifiers(t *testing.T, p Public) []*dsse.EnvelopeVerifier {
	t.Helper()
	key, err := signerverifier.LoadKey(p.PEM())
	if err != nil {
		t.Fatal(err)
	}
	named, err := signerverifier.NewED25519SignerVerifierFromSSLibKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var list []*dsse.EnvelopeVerifier
	for _, v := range []dsse.Verifier{named, unnamed{named}} {
		e, err := dsse.NewEnvelopeVerifier(v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// unnamed gets the library's own name: the fingerprint of SSH.
type unnamed struct{ dsse.Verifier }

func (unnamed) KeyID() (string, error) { return "", nil }

// judge has each of the verifiers look; the error is of the first that has one.
func judge(t *testing.T, p Public, e *dsse.Envelope) error {
	t.Helper()
	var errs []error
	for _, v := range verifiers(t, p) {
		_, err := v.Verify(context.Background(), e)
		errs = append(errs, err)
	}
	if (errs[0] == nil) != (errs[1] == nil) {
		t.Errorf("the judges disagree: %v", errs)
	}
	return errs[0]
}

// TestDSSE has the DSSE authors' library verify an envelope.
func TestDSSE(t *testing.T) {
	k, _ := newKey(t)
	other, _ := newKey(t)
	s, err := Provenance(build)
	if err != nil {
		t.Fatal(err)
	}
	line, err := k.SignStatement(s)
	if err != nil {
		t.Fatal(err)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatal(err)
	}
	if err := judge(t, k.Public, &e); err != nil {
		t.Error(err)
	}
	if judge(t, other.Public, &e) == nil {
		t.Error("another key verifies it, too")
	}
	got, err := k.Public.OpenStatement(line)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Error(diff)
	}
	if _, err := other.Public.OpenStatement(line); !errors.Is(err, ErrSignature) {
		t.Errorf("by another key: %v", err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	payload = bytes.Replace(payload, []byte("golden.raw"), []byte("silver.raw"), 1)
	e.Payload = base64.StdEncoding.EncodeToString(payload)
	changed, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Public.OpenStatement(changed); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed payload: %v", err)
	}
	if judge(t, k.Public, &e) == nil {
		t.Error("the judge takes a changed payload")
	}
}

func TestVerifyFile(t *testing.T) {
	k, _ := newKey(t)
	dir := t.TempDir()
	image := write(t, filepath.Join(dir, "golden.raw"), []byte("image"))
	sum, err := Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	b := build
	b.Subjects = []Resource{File("golden.raw", sum), File("golden.cdx.json", strings.Repeat("cd", 32))}
	s, err := Provenance(b)
	if err != nil {
		t.Fatal(err)
	}
	line, err := k.SignStatement(s)
	if err != nil {
		t.Fatal(err)
	}
	name := write(t, filepath.Join(dir, "golden.intoto.jsonl"), line)
	got, err := k.Public.VerifyFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := Verified{File: name, By: name, Subjects: []string{image}, Absent: []string{"golden.cdx.json"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := k.Public.VerifyFile(image); err == nil || !strings.Contains(err.Error(), "hint: an image is vouched for by its provenance") {
		t.Errorf("an image without a signature: %v", err)
	}
	write(t, image+SignatureSuffix, k.Sign([]byte("image")))
	if _, err := k.Public.VerifyFile(image); err != nil {
		t.Error(err)
	}
	write(t, image, []byte("imagf"))
	if _, err := k.Public.VerifyFile(image); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed image: %v", err)
	}
	if _, err := k.Public.VerifyFile(name); err == nil || !strings.Contains(err.Error(), "is not what was built") {
		t.Errorf("a changed image beside its provenance: %v", err)
	}
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Public.VerifyFile(name); err == nil || !strings.Contains(err.Error(), "none of the files that it names") {
		t.Errorf("a provenance alone: %v", err)
	}
	b.Subjects = []Resource{File("../../etc/passwd", sum)}
	if s, err = Provenance(b); err != nil {
		t.Fatal(err)
	}
	if line, err = k.SignStatement(s); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Public.VerifyFile(write(t, name, line)); err == nil || !strings.Contains(err.Error(), `subject "../../etc/passwd"`) {
		t.Errorf("a subject elsewhere: %v", err)
	}
	if _, err := k.Public.VerifyFile(write(t, name, []byte("\n"))); err == nil {
		t.Error("an empty file is verified")
	}
}

func FuzzParse(f *testing.F) {
	k, err := Generate(filepath.Join(f.TempDir(), "k"))
	if err != nil {
		f.Fatal(err)
	}
	s, err := Provenance(build)
	if err != nil {
		f.Fatal(err)
	}
	line, err := k.SignStatement(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(k.Public.PEM())
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := k.Public.OpenStatement(data); err == nil && s.Type != statementType {
			t.Error("a statement of another type")
		}
		if p, err := parsePublic(data); err == nil && len(p.PEM()) == 0 {
			t.Error("a public key without a form")
		}
		if key, err := parsePrivate(data); err == nil && key.Public.Verify(data, key.Sign(data)) != nil {
			t.Error("a key that does not verify what it signs")
		}
	})
}
