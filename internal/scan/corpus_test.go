package scan

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
)

// plant is a secret in a file. No secret stands in this source: all are made
// when the test runs, and known forms are put together from parts, so that no
// scanner trips on our own repository.
type plant struct {
	kind, path, rule string
	content          string
}

// maker makes random secrets, the same in each run but for keys.
type maker struct {
	t *testing.T
	r *mathrand.Rand
}

func newMaker(t *testing.T) maker {
	return maker{t, mathrand.New(mathrand.NewPCG(5, 40))}
}

const (
	alnum = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	crypt = "./" + alnum
	hexes = "0123456789abcdef"
)

func (m maker) chars(set string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(set[m.r.IntN(len(set))])
	}
	return b.String()
}

func (m maker) base64(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.r.UintN(256))
	}
	return base64.StdEncoding.EncodeToString(b)
}

func (m maker) must(b []byte, err error) []byte {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// openSSH is a new key as ssh-keygen writes it.
func (m maker) openSSH() string {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		m.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func (m maker) encryptedSSH() string {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte("pass"))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func (m maker) rsaKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

func (m maker) pem(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (m maker) ecPEM() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.pem("EC PRIV"+"ATE KEY", m.must(x509.MarshalECPrivateKey(key)))
}

// private is "PRIVATE KEY", not written out.
const private = "PRIV" + "ATE KEY"

// corpus is every kind in a file of its own.
func (m maker) corpus() []plant {
	all := m.keys()
	all = append(all, m.hashes()...)
	all = append(all, m.tokens()...)
	all = append(all, m.clients()...)
	return append(all, m.machines()...)
}

func (m maker) keys() []plant {
	rsaKey := m.rsaKey()
	pkcs8 := m.must(x509.MarshalPKCS8PrivateKey(rsaKey))
	age := "AGE-SECRET-" + "KEY-1" + m.chars("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)
	return []plant{
		{"OpenSSH private key", "root/.ssh/id_ed25519", "private-key", m.openSSH()},
		{"OpenSSH private key with a passphrase", "home/ops/id_backup", "private-key", m.encryptedSSH()},
		{"RSA key in PEM (PKCS #1)", "opt/app/server.pem", "private-key", m.pem("RSA "+private, x509.MarshalPKCS1PrivateKey(rsaKey))},
		{"RSA key in PEM (PKCS #8)", "opt/app/conf/tls.txt", "private-key", m.pem(private, pkcs8)},
		{"encrypted key in PEM", "opt/app/enc.pem", "private-key", m.pem("ENCRYPTED "+private, []byte(m.chars(alnum, 900)))},
		{"EC key in PEM", "srv/ec.pem", "private-key", m.ecPEM()},
		{"DSA key in PEM", "srv/dsa.pem", "private-key", m.pem("DSA "+private, []byte(m.chars(alnum, 400)))},
		{"key in one line of JSON", "opt/app/sa.json", "private-key", `{"private_key": "` + strings.ReplaceAll(m.pem(private, pkcs8), "\n", `\n`) + `"}`},
		{"half of a key, without its end", "opt/app/torn", "private-key", m.pem(private, pkcs8)[:600]},
		{"private key in DER", "opt/app/server.der", "private-key", string(pkcs8)},
		{"PGP private key block", "root/backup.asc", "private-key", "-----BEGIN PGP " + private + " BLOCK-----\n\n" + m.base64(600) + "\n-----END PGP " + private + " BLOCK-----\n"},
		{"key of GnuPG's agent", "root/.gnupg/private-keys-v1.d/" + m.chars(hexes, 40) + ".key", "gnupg-secret-key", "Created: 1\nKey: (private-key (rsa))\n"},
		{"PuTTY key", "home/ops/key.ppk", "putty-private-key", "PuTTY-User-" + "Key-File-3: ssh-ed25519\nEncryption: none\nPublic-Lines: 2\n" + m.base64(60) + "\nPriv" + "ate-Lines: 1\n" + m.base64(36) + "\n"},
		{"WireGuard configuration", "etc/wireguard/wg0.conf", "wireguard-key", "[Interface]\nPriv" + "ateKey = " + m.base64(32) + "\n"},
		{"WireGuard key file", "etc/wireguard/private.key", "wireguard-key-file", m.base64(32) + "\n"},
		{"age identity", "root/.config/sops/age/keys.txt", "age-key", "# created\n" + age + "\n"},
		{"minisign secret key", "root/.minisign/minisign.key", "minisign-key", "untrusted comment: minisign encrypted secret " + "key\n" + m.base64(158) + "\n"},
		{"OpenVPN static key", "etc/openvpn/ta.txt", "openvpn-static-key", "-----BEGIN OpenVPN " + "Static key V1-----\n" + m.chars(hexes, 512) + "\n-----END\n"},
		{"PKCS #12", "opt/app/store.bin", "pkcs12-file", "\x30\x82\x01\x00\x02\x01\x03\x30" + m.chars(alnum, 0x100-4)},
		{"Java key store", "opt/app/keystore", "keystore", "\xfe\xed\xfe\xed\x00\x00\x00\x02" + m.chars(alnum, 100)},
		{"DNSSEC key", "var/lib/bind/Kexample.private", "dnssec-key", "Private-" + "key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPriv" + "ateKey: " + m.base64(32) + "\n"},
		{"key of a TLS server", "etc/ssl/private/web.key", "tls-private-key", m.ecPEM()},
	}
}

func (m maker) hashes() []plant {
	bc := string(m.must(bcrypt.GenerateFromPassword([]byte("test"), bcrypt.MinCost)))
	shadow := func(hash string) string { return "daemon:*:19000:0:99999:7:::\nops:" + hash + ":19000:0:99999:7:::\n" }
	return []plant{
		{"yescrypt hash in shadow", "etc/shadow", "password-hash", shadow("$y" + "$j9T$" + m.chars(crypt, 22) + "$" + m.chars(crypt, 43))},
		{"SHA-512 hash in a backup of shadow", "etc/shadow-", "password-hash", shadow("$6" + "$" + m.chars(crypt, 16) + "$" + m.chars(crypt, 86))},
		{"SHA-256 hash in a script", "root/setup.sh", "password-hash", "usermod -p '$5" + "$" + m.chars(crypt, 16) + "$" + m.chars(crypt, 43) + "' ops\n"},
		{"bcrypt hash in htpasswd", "etc/nginx/htpasswd", "password-hash", "ops:" + bc + "\n"},
		{"MD5 hash in htpasswd", "etc/apache2/.htpasswd", "password-hash", "ops:$apr" + "1$" + m.chars(crypt, 8) + "$" + m.chars(crypt, 22) + "\n"},
		{"argon2 hash", "opt/app/users.csv", "password-hash", "1,ops,$argon" + "2id$v=19$m=65536,t=3,p=4$" + m.chars(alnum, 22) + "$" + m.chars(alnum, 43) + "\n"},
		{"DES hash in shadow", "mnt/old/etc/shadow", "shadow-des-hash", "ops:" + m.chars(crypt, 13) + ":19000:0:99999:7:::\n"},
		{"GRUB password", "boot/grub/user.cfg", "grub-password", "GRUB2_PASSWORD=grub.pbkdf2." + "sha512.10000." + m.chars("0123456789ABCDEF", 128) + "." + m.chars("0123456789ABCDEF", 128) + "\n"},
		{"LDAP password hash", "etc/ldap/ops.ldif", "ldap-password-hash", "userPassword: {SS" + "HA}" + m.base64(24) + "\n"},
		{"PostgreSQL verifier", "root/dump.sql", "scram-hash", "ALTER ROLE ops PASSWORD 'SCRAM-SHA-" + "256$4096:" + m.base64(16) + "$" + m.base64(32) + ":" + m.base64(32) + "';\n"},
	}
}

func (m maker) tokens() []plant {
	return []plant{
		{"AWS access key", "home/ops/notes.txt", "aws-access-token", "key is AKI" + "A" + m.chars(upper, 16) + " ok\n"},
		{"AWS credentials file", "root/.aws/credentials", "cloud-credentials", "[default]\naws_secret_" + "access_key = " + m.chars(alnum, 40) + "\n"},
		{"GitHub token", "opt/ci/run.sh", "github-pat", "git clone https://gh" + "p_" + m.chars(alnum, 36) + "@github.com/x/y\n"},
		{"GitLab token", "opt/ci/gl.sh", "gitlab-pat", "TOKEN=glp" + "at-" + m.chars(alnum, 20) + "\n"},
		{"Slack token", "opt/bot/config.py", "slack-bot-token", "t = 'xox" + "b-" + m.chars("0123456789", 12) + "-" + m.chars("0123456789", 12) + "-" + m.chars(alnum, 24) + "'\n"},
		{"Stripe key", "opt/shop/settings.php", "stripe-access-token", "$k = 'sk_" + "live_" + m.chars(alnum, 24) + "';\n"},
		{"npm token", "root/.npmrc", "npm-access-token", "//registry.npmjs.org/:_authToken=np" + "m_" + m.chars(lower, 36) + "\n"},
		{"Vault token", "opt/app/vault.txt", "vault-service-token", "VAULT: hv" + "s." + m.chars(alnum, 95) + "\n"},
		{"JSON web token", "opt/app/session", "jwt", "Bearer ey" + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))[2:] + ".ey" + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1234567890","name":"ops","iat":1516239022}`))[2:] + "." + m.chars(alnum, 43) + "\n"},
		{"Azure storage key", "opt/app/appsettings.json", "azure-storage-key", `{"c":"DefaultEndpointsProtocol=https;Account` + `Key=` + m.base64(64) + `;"}`},
		{"password in a program's configuration", "opt/app/app.ini", "generic-api-key", "db_pass" + "word = " + m.chars(alnum, 24) + "\n"},
		{"password in a URL", "opt/app/db.conf", "url-password", "dsn = postgres://ops:" + m.chars(alnum, 18) + "@db.example.net/app\n"},
	}
}

func (m maker) clients() []plant {
	pw := func() string { return m.chars(alnum, 16) }
	return []plant{
		{"environment file", "opt/app/.env", "env-secret", "DEBUG=1\nSMTP_PASS" + "WORD=" + pw() + "\n"},
		{"Terraform state", "opt/infra/terraform.tfstate", "terraform-state", `{"version": 4, "terraform_version": "1.9.0", "resources": []}`},
		{"Terraform variables", "opt/infra/prod.tfvars", "tfvars-secret", `db_pass` + `word = "` + pw() + `"` + "\n"},
		{"kubeconfig with a client key", "root/.kube/config", "kubeconfig", "users:\n- user:\n    client-key-" + "data: " + m.base64(200) + "\n"},
		{"kubeconfig with a token", "etc/kubernetes/admin.conf", "kubeconfig-token", "users:\n- user:\n    token: " + m.chars(alnum, 40) + "\n"},
		{"login of a container registry", "root/.docker/config.json", "container-registry-auth", `{"auths":{"r.example.net":{"au` + `th":"` + m.base64(24) + `"}}}`},
		{".netrc", "root/.netrc", "netrc-password", "machine x login ops pass" + "word " + pw() + "\n"},
		{".pgpass", "root/.pgpass", "pgpass", "db:5432:app:ops:" + pw() + "\n"},
		{".my.cnf", "root/.my.cnf", "client-password", "[client]\npass" + "word=" + pw() + "\n"},
		{".git-credentials", "root/.git-credentials", "git-credentials", "https://ops:" + pw() + "@git.example.net\n"},
		{".pypirc", "root/.pypirc", "client-password", "[pypi]\nusername = ops\npass" + "word = " + pw() + "\n"},
		{"shell history", "root/.bash_history", "shell-history", "ls\nmysql -p" + pw() + "\n"},
		{"database client's history", "root/.psql_history", "shell-history", "select 1;\n"},
		{"password file of Ansible", "root/.vault_pass", "ansible-vault-password", pw() + "\n"},
		{"mail relay login", "etc/postfix/sasl_passwd", "smtp-login", "[relay.example.net]:587 ops:" + pw() + "\n"},
		{"Samba credentials", "etc/.smbcredentials", "client-password", "username=ops\npass" + "word=" + pw() + "\n"},
	}
}

func (m maker) machines() []plant {
	pw := func() string { return m.chars(alnum, 16) }
	return []plant{
		{"SSH host key", "etc/ssh/ssh_host_ed25519_key", "ssh-host-key", m.openSSH()},
		{"key that may log in", "home/ops/.ssh/authorized_keys", "authorized-keys", "ssh-ed25519 " + m.base64(51) + " build@host\n"},
		{"temporary key of Packer", "root/.ssh/authorized_keys2", "packer-key", "ssh-rsa " + m.base64(200) + " packer" + "_" + m.chars(hexes, 8) + "\n"},
		{"machine-id", "etc/machine-id", "machine-id", m.chars(hexes, 32) + "\n"},
		{"random seed", "var/lib/systemd/random-seed", "random-seed", m.chars(alnum, 32)},
		{"user-data of cloud-init", "var/lib/cloud/instances/i-1/user-data.txt", "cloud-init-data", "#cloud-config\n"},
		{"password in user-data", "root/user-data.yaml", "cloud-init-password", "#cloud-config\npass" + "word: " + pw() + "\n"},
		{"wireless key in netplan", "etc/netplan/50-wifi.yaml", "wifi-psk", "network:\n  wifis:\n    w:\n      access-points:\n        x:\n          pass" + "word: \"" + pw() + "\"\n"},
		{"wireless key of NetworkManager", "etc/NetworkManager/system-connections/w.nmconnection", "wifi-psk", "[wifi-security]\nps" + "k=" + pw() + "\n"},
		{"wireless key of wpa_supplicant", "etc/wpa_supplicant/wpa_supplicant.conf", "wifi-psk", "network={\n ps" + "k=\"" + pw() + "\"\n}\n"},
		{"IPsec preshared key", "etc/ipsec.secrets", "ipsec-secret", "a b : PS" + "K \"" + pw() + "\"\n"},
		{"preseed file", "root/x.seed", "installer-password", "d-i passwd/root-" + "password password " + pw() + "\n"},
		{"kickstart file", "root/ks.txt", "installer-password", "lang en\nroot" + "pw --plaintext " + pw() + "\n"},
		{"answers of an installation", "root/install.env.txt", "answers-password", "K_ROOT_PASS" + "WORD=" + pw() + "\n"},
		{"Kerberos keytab", "etc/krb5.keytab", "kerberos-keys", "\x05\x02\x00\x00\x00\x30" + m.chars(alnum, 60)},
		{"Samba's secrets", "var/lib/samba/private/secrets.tdb", "samba-secrets", "TDB file\n" + m.chars(alnum, 60)},
		{"systemd credential", "etc/credstore/db", "systemd-credential", pw()},
		{"disk key", "etc/cryptsetup-keys.d/data.key", "disk-key", m.chars(alnum, 512)},
		{"core dump", "root/core.1234", "core-dump", "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x04\x00\x3e\x00" + m.chars(alnum, 100)},
		{"DHCP lease", "var/lib/dhcp/dhclient.leases", "dhcp-lease", "lease {\n}\n"},
		{"hibernated machine", "swapfile", "hibernation", strings.Repeat("\x00", 4086) + "S1SUSPEND\x00" + m.chars(alnum, 4096)},
		{"installer's log", "var/log/installer/cdebconf/questions.dat", "installer-leftover", "Name: x\n"},
		{"DNS update key", "etc/bind/rndc.key", "dns-key", "key x {\n  secr" + "et \"" + m.base64(32) + "\";\n};\n"},
		{"token in hexadecimal", "opt/app/api.yaml", "generic-api-key", "api_to" + "ken: " + hex.EncodeToString([]byte(m.chars(alnum, 20))) + "\n"},
	}
}
