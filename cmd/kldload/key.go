package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/evidence"
)

// signKeyEnv names the signing key where no flag does.
const signKeyEnv = "KLDLOAD_SIGN_KEY"

func newKeyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "key",
		GroupID: groupKeep,
		Short:   "Make signing keys, sign, and verify what a build signed",
		Long: `Ed25519 keys for what a build signs: provenance, bills of materials, manifests
and checksums. Keys are PEM (PKCS#8, SPKI), signatures the 64 bytes that openssl
and cosign verify, statements DSSE envelopes.

The key is --key; else ` + signKeyEnv + `; else the user's own,
kldload/keys/signing.key in XDG_DATA_HOME (~/.local/share).`,
		Example: `  kldload key generate
  kldload key verify --key images.pub output/kldload-server`,
		Args: knownCommand,
		RunE: showHelp,
	}
	c.AddCommand(newKeyGenerateCommand(a), newKeyPublicCommand(a), newKeySignCommand(a), newKeyVerifyCommand(a))
	return c
}

// signKeyPath is the file that a flag or the environment names, "" when none.
func signKeyPath(flag string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(signKeyEnv)
}

// keyPath is the same with the user's own key at the end.
func keyPath(flag string) (string, error) {
	if name := signKeyPath(flag); name != "" {
		return name, nil
	}
	name, err := evidence.DefaultKeyPath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no signing key %q\nhint: kldload key generate makes it, --key FILE names another", name)
	}
	return name, nil
}

func newKeyGenerateCommand(a *app) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "generate",
		Short: "Make a private key, readable by its owner alone",
		Long: `Make an Ed25519 key in PKCS#8 PEM, with mode 0600. A key that exists is never
replaced. Keep a copy offline: what it signed cannot be signed again without it.`,
		Example: `  kldload key generate
  kldload key generate --output release.key && kldload key public --key release.key > release.pub`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error { return runKeyGenerate(a, output) },
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write the key to `FILE` (default: the user's own key)")
	return c
}

func runKeyGenerate(a *app, output string) error {
	if output == "" {
		var err error
		if output, err = evidence.DefaultKeyPath(); err != nil {
			return err
		}
	}
	key, err := evidence.Generate(output)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the signing key: %q exists\nhint: a key is never replaced; move it away, or name another with --output", output)
	}
	if err != nil {
		return err
	}
	a.ui.Result(fmt.Sprintf("%s  %s\nnext: kldload key public --key %s  gives the half that others need", output, key.Public.Fingerprint(), output), output,
		map[string]any{"key": output, "fingerprint": key.Public.Fingerprint()})
	return nil
}

func newKeyPublicCommand(a *app) *cobra.Command {
	var key, format string
	c := &cobra.Command{
		Use:   "public",
		Short: "Print the public half of a key",
		Example: `  kldload key public > images.pub
  kldload key public --key release.key --format minisign > release.minisign.pub`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error { return runKeyPublic(a, key, format) },
	}
	c.Flags().StringVar(&key, "key", "", "private or public key in `FILE`")
	c.Flags().StringVar(&format, "format", "pem", "`FORMAT` of the key: pem (SPKI) or minisign")
	return c
}

func runKeyPublic(a *app, key, format string) error {
	if format != "pem" && format != "minisign" {
		return usagef("--format %q: want pem or minisign", format)
	}
	name, err := keyPath(key)
	if err != nil {
		return err
	}
	public, err := evidence.LoadPublic(name)
	if err != nil {
		return err
	}
	text := public.PEM()
	if format == "minisign" {
		text = public.Minisign()
	}
	shown := strings.TrimSuffix(string(text), "\n")
	a.ui.Result(shown, shown, map[string]any{"public_key": string(text), "fingerprint": public.Fingerprint()})
	return nil
}

func newKeySignCommand(a *app) *cobra.Command {
	var key, format string
	c := &cobra.Command{
		Use:   "sign FILE...",
		Short: "Write a detached signature beside each file",
		Long: `Write FILE` + evidence.SignatureSuffix + `, the 64 bytes of Ed25519 over all of FILE, which openssl and cosign
verify; or, with --format minisign, FILE` + evidence.MinisignSuffix + `. minisign signs a digest: choose it for
files that do not fit into memory. An older signature is replaced.`,
		Example: `  kldload key sign manifest.json
  kldload key sign --key release.key --format minisign kldload-server.qcow2`,
		Args: someArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return runKeySign(a, key, format, args) },
	}
	c.Flags().StringVar(&key, "key", "", "private key in `FILE`")
	c.Flags().StringVar(&format, "format", "raw", "`FORMAT` of the signature: raw or minisign")
	return c
}

func runKeySign(a *app, keyFile, format string, files []string) error {
	if format != "raw" && format != "minisign" {
		return usagef("--format %q: want raw or minisign", format)
	}
	name, err := keyPath(keyFile)
	if err != nil {
		return err
	}
	key, err := evidence.Load(name)
	if err != nil {
		return err
	}
	var signed []string
	for _, file := range files {
		text, to, err := detached(key, file, format)
		if err == nil {
			err = atomicfile.WriteFile(to, text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("signing %q: %w", file, err)
		}
		signed = append(signed, to)
	}
	list := strings.Join(signed, "\n")
	a.ui.Result(list, list, map[string]any{"signatures": signed, "fingerprint": key.Public.Fingerprint()})
	return nil
}

// detached gives a signature and the name of its file.
func detached(key *evidence.Key, file, format string) (text []byte, to string, err error) {
	if format == "raw" {
		text, err = key.SignFile(file)
		return text, file + evidence.SignatureSuffix, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	text, err = key.SignMinisign(f, filepath.Base(file))
	return text, file + evidence.MinisignSuffix, err
}

func newKeyVerifyCommand(a *app) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "verify FILE|DIR...",
		Short: "Verify signatures, and the files that a provenance names",
		Long: `Verify FILE against FILE` + evidence.SignatureSuffix + `; a provenance, NAME` + evidence.EnvelopeSuffix + `, against the signature
in it, and each file that it names and that lies beside it against its digest.
For a folder all of that and each FILE` + evidence.MinisignSuffix + `, and every file in it must be vouched for, but
public keys (*.pub), which are not looked at, as subfolders are not.

--key is the public key of whom you trust: take it from them, not from beside
the images. Exit status 3 means that something is not as it was signed.`,
		Example: `  kldload key verify --key images.pub output/kldload-server
  kldload key verify --key images.pub kldload-server.intoto.jsonl`,
		Args: someArgs("FILE|DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return runKeyVerify(a, key, args) },
	}
	c.Flags().StringVar(&key, "key", "", "public key in `FILE`")
	return c
}

func runKeyVerify(a *app, keyFile string, args []string) error {
	name, err := keyPath(keyFile)
	if err != nil {
		return err
	}
	public, err := evidence.LoadPublic(name)
	if err != nil {
		return err
	}
	var all []evidence.Verified
	for _, arg := range args {
		st, err := os.Stat(arg)
		if err != nil {
			return err
		}
		var list []evidence.Verified
		if st.IsDir() {
			list, err = public.VerifyDir(arg)
		} else {
			list = make([]evidence.Verified, 1)
			list[0], err = public.VerifyFile(arg)
		}
		if err != nil {
			return codedError{err, exitChecks}
		}
		all = append(all, list...)
	}
	a.ui.Result(verifiedText(all, public), "ok", map[string]any{"verified": all, "fingerprint": public.Fingerprint()})
	return nil
}

func verifiedText(all []evidence.Verified, public evidence.Public) string {
	var b strings.Builder
	for _, v := range all {
		fmt.Fprintf(&b, "%s  signature good\n", v.File)
		for _, s := range v.Subjects {
			fmt.Fprintf(&b, "  %s  as it was built\n", s)
		}
		for _, s := range v.Absent {
			fmt.Fprintf(&b, "  %s  is not here\n", s)
		}
	}
	fmt.Fprintf(&b, "signed by %s", public.Fingerprint())
	return b.String()
}
