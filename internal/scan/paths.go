package scan

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// pathRule is a file that should not be there at all, by its path or by what
// its first bytes are.
type pathRule struct {
	id, description string
	globs           []string
	// content must say yes; nil wants a file that is not empty.
	content func(head []byte) bool
}

// pathRules finds the rules of a path: by its base, its ending, or by trying
// those few that have neither.
type pathRules struct {
	base, ext map[string][]compiledPath
	rest      []compiledPath
}

type compiledPath struct {
	rule *rule
	re   *regexp.Regexp
	pathRule
}

func newPathRules() (*pathRules, error) {
	p := &pathRules{base: map[string][]compiledPath{}, ext: map[string][]compiledPath{}}
	for _, pr := range fileRules() {
		r := &rule{id: pr.id, description: pr.description, rank: rankOwn}
		for _, g := range pr.globs {
			x, err := globRegexp(g)
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", pr.id, err)
			}
			c := compiledPath{r, x, pr}
			switch base := path.Base(g); {
			case !strings.ContainsAny(base, "*?"):
				p.base[base] = append(p.base[base], c)
			case strings.HasPrefix(base, "*.") && !strings.ContainsAny(base[2:], "*?."):
				p.ext[base[1:]] = append(p.ext[base[1:]], c)
			default:
				p.rest = append(p.rest, c)
			}
		}
	}
	return p, nil
}

// byPath adds what the unit's path, or the form of its content, says.
func (u *unit) byPath(head []byte, size int64) {
	p := u.e.rules.paths
	base := path.Base(u.path)
	for _, list := range [][]compiledPath{p.base[base], p.ext[path.Ext(base)], p.rest} {
		for _, c := range list {
			if size > 0 && c.re.MatchString(u.path) && (c.content == nil && len(bytes.TrimSpace(head)) > 0 || c.content != nil && c.content(head)) {
				u.file(c.rule)
			}
		}
	}
	if strings.HasPrefix(base, "authorized_keys") {
		u.authorizedKeys(head)
	}
	if r := binaryKey(head, u.path); r != nil {
		u.file(r)
	}
}

// file makes the whole of it a finding.
func (u *unit) file(r *rule) {
	for _, c := range u.found {
		if c.rule.id == r.id && c.start < 0 {
			return
		}
	}
	u.found = append(u.found, candidate{loc: u.loc, rule: r, start: -1, end: -1})
}

var authorizedKeys = &rule{id: "authorized-keys", description: "key that may log in, and that the template does not declare", rank: rankField}

// authorizedKeys tells the keys that no user of the template has.
func (u *unit) authorizedKeys(head []byte) {
	at := int64(0)
	for i, line := range bytes.Split(head, []byte{'\n'}) {
		start := at
		at += int64(len(line)) + 1
		key := string(bytes.TrimSpace(line))
		if key == "" || key[0] == '#' || u.e.rules.declared[key] {
			continue
		}
		u.found = append(u.found, candidate{loc: u.loc, rule: authorizedKeys, secret: key, line: i + 1, start: start, end: start + int64(len(line))})
	}
}

func has(expr string) func([]byte) bool {
	x := regexp.MustCompile(expr)
	return func(head []byte) bool { return x.Match(head) }
}

func begins(magic ...string) func([]byte) bool {
	return func(head []byte) bool {
		for _, m := range magic {
			if bytes.HasPrefix(head, []byte(m)) {
				return true
			}
		}
		return false
	}
}

// fileRules are the files.
func fileRules() []pathRule {
	return []pathRule{
		{"shell-history", "history of a shell or a database client", []string{"**/.*_history", "**/fish_history", "**/.histfile", "**/.dbshell", "**/.lesshst", "**/.viminfo", "**/.psql_history-*", "**/.local/share/*/history", "**/.history"}, nil},
		{"env-file", "environment file", []string{"**/.env", "**/.env.local", "**/.env.production", "**/.env.development", "**/.env.staging", "**/.env.test", "**/.envrc"}, has(`(?m)^\s*(?:export\s+)?[A-Za-z_]\w*=\S`)},
		{"terraform-state", "state of Terraform, with the values of all resources", []string{"**/*.tfstate", "**/*.tfstate.backup", "**/*.tfstate.*.backup"}, has(`"(?:terraform_version|resources|lineage)"`)},
		{"cloud-credentials", "login of a cloud", []string{"**/.aws/credentials", "**/.config/gcloud/credentials.db", "**/.config/gcloud/access_tokens.db", "**/.config/gcloud/application_default_credentials.json", "**/.config/gcloud/legacy_credentials/**", "**/.azure/accessTokens.json", "**/.azure/msal_token_cache.*", "**/.azure/service_principal_entries.*", "**/.oci/*.pem", "**/.config/doctl/config.yaml", "**/.config/hcloud/cli.toml", "**/.config/openstack/secure.yaml", "**/.bluemix/config.json"}, nil},
		{"vault-token", "token of Vault", []string{"**/.vault-token", "**/.config/vault/token"}, nil},
		{"ansible-vault-password", "password of Ansible vaults", []string{"**/.vault_pass*", "**/.vault-pass*", "**/vault_pass.txt", "**/vault_password*", "**/vault-password*", "**/.ansible_vault*"}, nil},
		{"git-credentials", "login of a git server", []string{"**/.git-credentials", "**/.config/git/credentials"}, nil},
		{"mysql-login", "login of a MySQL client", []string{"**/.mylogin.cnf"}, nil},
		{"gnupg-secret-key", "secret key of GnuPG", []string{"**/private-keys-v1.d/*.key", "**/secring.gpg", "**/openpgp-revocs.d/*.rev"}, nil},
		{"keystore", "store of keys or passwords", []string{"**/*.kdbx", "**/*.keyring", "**/*.jks", "**/*.keystore", "**/key4.db", "**/logins.json", "**/.password-store/**/*.gpg", "**/kwallet/*.kwl", "**/.config/*/Login Data"}, keystore},
		{"pkcs12-file", "keys and certificates in PKCS#12", []string{"**/*.p12", "**/*.pfx"}, begins("\x30")},
		{"tls-private-key", "key of a TLS server", []string{"etc/ssl/private/**", "etc/pki/tls/private/**", "etc/letsencrypt/archive/**/privkey*.pem", "etc/letsencrypt/accounts/**/private_key.json"}, nil},
		{"cloud-init-data", "what cloud-init was given at a boot", []string{"var/lib/cloud/instances/**/user-data.txt*", "var/lib/cloud/instances/**/vendor-data*.txt*", "var/lib/cloud/instances/**/cloud-config.txt", "var/lib/cloud/seed/**", "var/lib/cloud/instances/**/obj.pkl", "run/cloud-init/**"}, nil},
		{"samba-secrets", "passwords of Samba", []string{"var/lib/samba/private/**", "etc/samba/smbpasswd", "**/passdb.tdb", "**/secrets.tdb"}, nil},
		{"kerberos-keys", "keys or tickets of Kerberos", []string{"**/*.keytab", "**/krb5cc_*"}, begins("\x05\x01", "\x05\x02", "\x05\x03", "\x05\x04")},
		{"ssh-host-key", "key of this machine's SSH server", []string{"etc/ssh/ssh_host_*_key"}, nil},
		{"machine-id", "identity of a machine", []string{"etc/machine-id", "var/lib/dbus/machine-id"}, has(`^[0-9a-f]{32}\s*$`)},
		{"random-seed", "seed of random numbers, the same in all clones", []string{"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "boot/efi/loader/random-seed", "**/loader/random-seed"}, nil},
		{"systemd-credential", "credential of systemd", []string{"var/lib/systemd/credential.secret", "etc/credstore/**", "etc/credstore.encrypted/**", "var/lib/systemd/credstore/**", "usr/lib/credstore/**", "usr/lib/credstore.encrypted/**"}, nil},
		{"dhcp-lease", "lease of an address, with the machine's identity", []string{"var/lib/dhcp/*.leases", "var/lib/dhclient/*.leases", "var/lib/dhcpcd/*.lease*", "var/lib/NetworkManager/*.lease"}, has(`\S`)},
		{"network-manager-secret", "key of NetworkManager's identity", []string{"var/lib/NetworkManager/secret_key"}, nil},
		{"disk-key", "key of an encrypted disk or pool", []string{"etc/cryptsetup-keys.d/**", "etc/luks/**", "etc/zfs/**/*.key", "etc/zfs/keys/**", "boot/**/*.keyfile", "**/crypto_keyfile.bin", "etc/keys/**"}, nil},
		{"service-key", "key of a service", []string{"etc/munge/munge.key", "etc/corosync/authkey", "var/lib/tailscale/tailscaled.state", "**/hs_ed25519_secret_key", "etc/clevis/**", "var/lib/etcd/**/snap/db", "var/lib/kubelet/pki/*.pem", "etc/kubernetes/pki/**/*.key", "var/lib/rancher/k3s/server/token", "var/lib/rancher/k3s/server/node-token"}, nil},
		{"installer-leftover", "log or answers of an installer", []string{"var/log/installer/**", "**/anaconda-ks.cfg", "**/original-ks.cfg", "**/preseed.cfg", "**/autoinstall.yaml", "root/answers.env", "**/kldload/answers*", "**/autounattend.xml", "var/log/anaconda/**"}, nil},
		{"packer-leftover", "file of a Packer provisioner", []string{"tmp/packer-*", "tmp/script_*.sh", "**/packer-shell*", "**/packer_cache/**", "tmp/vagrant*", "**/.vagrant.d/insecure_private_key*"}, nil},
		{"core-dump", "memory of a process", []string{"**/core", "**/core.*", "var/lib/systemd/coredump/*", "var/crash/*"}, coreDump},
		{"hibernation", "memory of a machine", []string{"**/swapfile", "**/swap.img", "**/*.swap", "**/hiberfil.sys", "**/swap"}, swapFile},
		{"editor-leftover", "a backup of a file with passwords", []string{"etc/shadow-", "etc/gshadow-", "etc/.*.swp", "root/.*.swp", "home/**/.*.swp"}, has(`\$(?:6|5|y|2b|1)\$|b0VIM`)},
	}
}

func keystore(head []byte) bool {
	return begins("\x03\xd9\xa2\x9a", "\xfe\xed\xfe\xed", "\xce\xce\xce\xce", "GnomeKeyring", "KWALLET", "SQLite format 3", "\x30\x82", "\x84", "\x85", "\xc1")(head) ||
		bytes.Contains(head, []byte("encryptedPassword"))
}

// coreDump knows an ELF file of type ET_CORE, in either byte order, and the
// compressed ones of systemd-coredump.
func coreDump(head []byte) bool {
	if len(head) < 18 {
		return false
	}
	return bytes.HasPrefix(head, []byte("\x7fELF")) && (head[16] == 4 && head[17] == 0 || head[16] == 0 && head[17] == 4) ||
		bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) || bytes.HasPrefix(head, []byte("\xfd7zXZ")) || bytes.HasPrefix(head, []byte("ProblemType:"))
}

// swapFile knows swap with pages in it: those of an image that hibernated, and
// a used one's (its first page holds nothing but the header).
func swapFile(head []byte) bool {
	const page = 4096
	if len(head) < page {
		return false
	}
	switch string(head[page-10 : page]) {
	case "S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001":
		return true
	case "SWAPSPACE2":
		return len(bytes.Trim(head[page:], "\x00")) > 0
	}
	return bytes.HasPrefix(head, []byte("hibr")) || bytes.HasPrefix(head, []byte("HIBR"))
}

var (
	derKey    = &rule{id: "private-key", description: "private key (DER)", rank: rankOwn}
	pkcs12    = &rule{id: "pkcs12-file", description: "keys and certificates in PKCS#12", rank: rankOwn}
	javaStore = &rule{id: "keystore", description: "key store of Java", rank: rankOwn}
	pgpKey    = &rule{id: "gnupg-secret-key", description: "secret key of OpenPGP", rank: rankOwn}
	torKey    = &rule{id: "tor-key", description: "key of a Tor service", rank: rankOwn}
)

// binaryKey knows keys by the form of their first bytes.
func binaryKey(head []byte, name string) *rule {
	if len(head) < 32 || len(head) >= maxMemory {
		return nil
	}
	switch {
	case bytes.HasPrefix(head, []byte("== ed25519v1-secret")):
		return torKey
	case bytes.HasPrefix(head, []byte("\xfe\xed\xfe\xed\x00\x00\x00")), bytes.HasPrefix(head, []byte("\xce\xce\xce\xce\x00\x00\x00")):
		return javaStore
	case isPGPSecret(head):
		return pgpKey
	}
	body, ok := derSequence(head)
	switch {
	case !ok:
		return nil
	case bytes.HasPrefix(body, []byte{2, 1, 3, 0x30}): // PFX, RFC 7292 section 4
		return pkcs12
	case bytes.HasPrefix(body, []byte{2, 1, 0, 0x30, 0x0d, 6, 9}), bytes.HasPrefix(body, []byte{2, 1, 0, 0x30, 5, 6, 3}), // PKCS #8, RFC 5958
		bytes.HasPrefix(body, []byte{2, 1, 0, 0x30, 0x13, 6, 7}), bytes.HasPrefix(body, []byte{2, 1, 0, 2, 0x82}), // RSA, RFC 8017 A.1.2
		bytes.HasPrefix(body, []byte{2, 1, 1, 4, 0x20}), bytes.HasPrefix(body, []byte{2, 1, 1, 4, 0x30}): // EC, RFC 5915
		return derKey
	}
	return nil
}

// derSequence gives the body of a SEQUENCE that fills the whole of b.
func derSequence(b []byte) ([]byte, bool) {
	switch {
	case b[0] != 0x30:
		return nil, false
	case b[1] < 0x80:
		return b[2:], int(b[1])+2 == len(b)
	case b[1] == 0x81:
		return b[3:], int(b[2])+3 == len(b)
	case b[1] == 0x82:
		return b[4:], int(b[2])<<8+int(b[3])+4 == len(b)
	}
	return nil, false
}

// isPGPSecret knows a secret-key packet of version 3 to 6 at the start (RFC
// 9580 section 4.2, 5.5.3): its tag is 5.
func isPGPSecret(b []byte) bool {
	var at int
	switch {
	case b[0] == 0x94:
		at = 2
	case b[0] == 0x95:
		at = 3
	case b[0] == 0xc5 && b[1] < 192:
		at = 2
	case b[0] == 0xc5 && b[1] < 224:
		at = 3
	default:
		return false
	}
	version, algorithm := b[at], b[at+5]
	return version >= 3 && version <= 6 && (algorithm >= 1 && algorithm <= 3 || algorithm >= 16 && algorithm <= 28)
}
