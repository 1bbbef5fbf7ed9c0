package scan

import (
	"bytes"
	"regexp"
)

// contentRules are ours, for what images hold and gitleaks does not look for.
// They come before the library's where both match.
func contentRules() []*rule {
	var rules []*rule
	for i, group := range [][]*rule{keyRules(), hashRules(), credentialRules(), networkRules()} {
		for _, r := range group {
			r.rank = []int{rankOwn, rankOwn, rankField, rankField}[i]
			if r.after == 0 {
				r.after = spanShort
			}
			rules = append(rules, r)
		}
	}
	return rules
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// keyRules find private keys by their form.
func keyRules() []*rule {
	return []*rule{
		{
			id: "private-key", description: "private key (PEM, OpenSSH, PGP)", keywords: []string{"private key"}, anywhere: true, after: spanLong,
			re:    re(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|[\s"',>|#*+])*(?:[A-Za-z-]{2,30}: [^\n]{0,200}(?:\\n|\s)+){0,4}(?:[A-Za-z0-9+/=]|\\[nr]|[\s"',>|#*+:]){64,}(?:-----END[A-Z0-9 ]{1,60}-----)?`),
			check: keyBody,
		},
		{
			id: "ssh2-private-key", description: "private key in the form of commercial SSH", keywords: []string{"begin ssh2 encrypted private"}, anywhere: true, after: spanLong,
			re: re(`---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----[A-Za-z0-9+/=\s:"-]{64,}`),
		},
		{
			id: "putty-private-key", description: "private key of PuTTY", keywords: []string{"putty-user-key-file-"}, anywhere: true, after: spanLong,
			re: re(`PuTTY-User-Key-File-\d: [a-z0-9-]+\s[\s\S]*?Private-Lines: \d+\s+[A-Za-z0-9+/=]{16,}`),
		},
		{
			id: "openvpn-static-key", description: "static key of OpenVPN", keywords: []string{"begin openvpn static key"}, anywhere: true, after: spanLong,
			re: re(`-----BEGIN OpenVPN Static key V1-----\s+[0-9a-f\s]{256,}`),
		},
		{
			id: "wireguard-key", description: "private or preshared key of WireGuard", keywords: []string{"privatekey", "presharedkey"},
			re: re(`(?i)\b(?:PrivateKey|PresharedKey)["']?\s{0,4}[:=]\s{0,4}["']?([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)`), check: highEntropy,
		},
		{
			id: "wireguard-key-file", description: "key file of WireGuard", keywords: []string{"="}, path: re(`(?:^|/)etc/wireguard/|(?:^|/)wireguard/[^/]*(?:key|private|psk)`),
			re: re(`(?m)^\s*([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\s*$`), check: highEntropy,
		},
		{
			id: "minisign-key", description: "secret key of minisign or signify", keywords: []string{"secret key"}, anywhere: true,
			re: re(`untrusted comment:[^\n]{0,200}secret key[^\n]{0,100}\r?\n([A-Za-z0-9+/=]{80,400})`),
		},
		{
			id: "dnssec-key", description: "private key of a DNS zone", keywords: []string{"private-key-format"},
			re: re(`Private-key-format: v[\d.]+\s[\s\S]{0,600}?(?:PrivateKey|PrivateExponent|Key): ([A-Za-z0-9+/=]{24,})`),
		},
		{
			id: "tor-key", description: "key of a Tor service", keywords: []string{"== ed25519v1-secret"}, anywhere: true,
			re: re(`== ed25519v1-secret: [a-z0-9]+ ==`),
		},
		{
			id: "packer-key", description: "temporary key of a Packer build", keywords: []string{"packer_"},
			re: re(`\bssh-(?:rsa|ed25519) [A-Za-z0-9+/=]{40,} packer_[0-9a-f-]{8,}`),
		},
		{
			id: "age-key", description: "identity of age", keywords: []string{"age-secret-key-"}, anywhere: true,
			re: re(`AGE-SECRET-KEY-(?:PQ-)?1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58,}`), check: highEntropy,
		},
	}
}

// keyBody wants what follows the header to be a key, not the text of a program
// that writes one: enough base64, none of it made of one letter.
func keyBody(_, match []byte) bool {
	_, body, _ := bytes.Cut(match, []byte("-----"))
	_, body, _ = bytes.Cut(body, []byte("-----"))
	body, _, _ = bytes.Cut(body, []byte("-----END"))
	body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte(`\n`), nil), []byte(`\r`), nil)
	n := 0
	for _, c := range body {
		if base64Value[c] != 0 {
			n++
		}
	}
	return n >= 64 && entropy(body) > 4
}

// highEntropy drops keys of zeros and of documentation ("AAAA…=").
func highEntropy(secret, _ []byte) bool { return entropy(secret) > 3.8 }

// hashRules find password hashes, crypt(5)'s and others'.
func hashRules() []*rule {
	return []*rule{
		{
			id: "password-hash", description: "password hash", keywords: []string{"$6$", "$5$", "$1$", "$apr1$", "$y$", "$gy$", "$7$", "$2a$", "$2b$", "$2x$", "$2y$", "$argon2", "$scrypt$"},
			re: re(`\$6\$(?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}` +
				`|\$5\$(?:rounds=\d{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}` +
				`|\$(?:1|apr1)\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}` +
				`|\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}` +
				`|\$(?:g?y|7)\$[./A-Za-z0-9]{1,32}\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}` +
				`|\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{8,100}\$[A-Za-z0-9+/]{16,200}` +
				`|\$scrypt\$ln=\d+,r=\d+,p=\d+\$[A-Za-z0-9+/]{8,100}\$[A-Za-z0-9+/]{16,200}`),
			check: highEntropy,
		},
		{
			id: "shadow-des-hash", description: "password hash of DES in a shadow file", keywords: []string{":"}, path: re(`(?:^|/)etc/(?:g?shadow|passwd|master\.passwd)[^/]*$|(?:^|/)\.?htpasswd$`),
			re: re(`(?m)^[A-Za-z_][\w.-]{0,31}\$?:([./A-Za-z0-9]{13})(?::|$)`),
		},
		{
			id: "ldap-password-hash", description: "password hash of LDAP", keywords: []string{"{ssha", "{sha}", "{crypt}", "{pbkdf2"},
			re: re(`\{(?:SSHA(?:256|512)?|SHA|PBKDF2[A-Z0-9-]*|CRYPT)\}[A-Za-z0-9+/=.$]{24,}`), check: highEntropy,
		},
		{
			id: "grub-password", description: "password hash of GRUB", keywords: []string{"grub.pbkdf2.sha512."},
			re: re(`grub\.pbkdf2\.sha512\.\d+\.[0-9A-F]{64,}\.[0-9A-F]{64,}`),
		},
		{
			id: "scram-hash", description: "password verifier of PostgreSQL", keywords: []string{"scram-sha-256$"},
			re: re(`SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]{16,}\$[A-Za-z0-9+/=]{40,}:[A-Za-z0-9+/=]{40,}`),
		},
	}
}

// credentialRules find secrets in files of known forms.
func credentialRules() []*rule {
	const value = `[ \t]*["']?([^\s"'#;,}]{4,200})`
	return []*rule{
		{
			id: "kubeconfig", description: "client key or token of Kubernetes", keywords: []string{"client-key-data"},
			re: re(`client-key-data["']?\s*:\s*["']?([A-Za-z0-9+/=]{40,})`),
		},
		{
			id: "kubeconfig-token", description: "token of Kubernetes", keywords: []string{"token"}, path: re(`(?:^|/)\.kube/|kubeconfig|(?:^|/)etc/kubernetes/|(?:^|/)k3s\.ya?ml$`),
			re: re(`(?m)^\s*(?:-\s*)?token:\s*["']?([A-Za-z0-9._:-]{16,})`),
		},
		{
			id: "container-registry-auth", description: "login of a container registry", keywords: []string{`"auth"`, `"identitytoken"`},
			re: re(`"(?:auth|identitytoken)"\s*:\s*"([A-Za-z0-9+/=._-]{8,})"`),
		},
		{
			id: "netrc-password", description: "password in .netrc", keywords: []string{"password"}, path: re(`(?:^|/)[._]netrc$|(?:^|/)auth\.conf(?:\.d/[^/]+)?$`),
			re: re(`(?s)\bpassword\s+(\S{3,200})`),
		},
		{
			id: "pgpass", description: "password in .pgpass", keywords: []string{":"}, path: re(`(?:^|/)\.?pgpass(?:\.conf)?$`),
			re: re(`(?m)^[^#:\n]+:[^:\n]*:[^:\n]*:[^:\n]*:([^\s]{1,200})$`),
		},
		{
			id: "client-password", description: "password in a client's configuration", keywords: []string{"pass", "secret", "token", "_auth"},
			path: re(`(?:^|/)(?:\.my\.cnf|\.mylogin\.cnf|\.pypirc|\.s3cfg|\.boto|\.npmrc|rclone\.conf|settings\.xml|gradle\.properties|credentials\.tfrc\.json|\.terraformrc|debian\.cnf|\.smbcredentials|smbcredentials|\.dockercfg|\.msmtprc|sasl_passwd|\.fetchmailrc|hosts\.yml|\.yarnrc(?:\.yml)?|auth\.json|\.cargo/credentials(?:\.toml)?|\.gem/credentials)$`),
			re:   re(`(?im)[\w./:@"'-]*(?:pass(?:word|wd)?|secret(?:_key)?|token|_auth)["']?\s*(?:=|:|>)` + value),
		},
		{
			id: "url-password", description: "password in a URL", keywords: []string{"://"},
			re:    re(`\b[a-z][a-z0-9+]{1,15}://[A-Za-z0-9._%+-]{1,64}:([^\s:@/"'<>{}$\\\x60]{4,128})@[A-Za-z0-9.-]{1,128}`),
			check: notPlaceholder, loose: true,
		},
		{
			id: "smtp-login", description: "password of a mail relay", keywords: []string{":"}, path: re(`(?:^|/)(?:sasl_passwd|passwd\.client|\.?esmtprc)$`),
			re: re(`(?m)^[^#\s]\S*[\s:]+\S+:(\S{3,200})\s*$`),
		},
		{
			id: "tfvars-secret", description: "secret in Terraform variables", keywords: []string{"pass", "secret", "token", "key"}, path: re(`\.tfvars(?:\.json)?$`),
			re: re(`(?im)^\s*["']?\w*(?:pass|secret|token|key)\w*["']?\s*[=:]\s*["']([^"'\n]{4,})["']`),
		},
		{
			id: "env-secret", description: "secret in an environment file", keywords: []string{"="}, path: re(`(?:^|/)[^/]*\.env(?:\.[\w-]+)?$|(?:^|/)etc/environment$|(?:^|/)etc/default/[^/]+$`),
			re:    re(`(?im)^\s*(?:export\s+)?[A-Z0-9_]*(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|CREDENTIALS?)[A-Z0-9_]*\s*=\s*["']?([^\s"'#]{4,})`),
			check: notPlaceholder,
		},
		{
			id: "azure-storage-key", description: "key of an Azure storage account", keywords: []string{"accountkey="}, anywhere: true,
			re: re(`(?i)AccountKey=([A-Za-z0-9+/]{86}==)`), check: highEntropy,
		},
		{
			id: "aws-secret-key", description: "secret access key of AWS", keywords: []string{"aws_secret_access_key", "secretaccesskey"},
			re: re(`(?i)aws_?secret_?access_?key["']?\s*[=:]\s*["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)`), check: highEntropy,
		},
	}
}

// notPlaceholder drops what documentation writes in a password's place.
func notPlaceholder(secret, _ []byte) bool {
	low := bytes.ToLower(secret)
	for _, word := range []string{"password", "passwd", "pass", "secret", "changeme", "example", "xxxx", "****", "your", "token", "<", "${", "$(", "%s", "[", "pwd"} {
		if bytes.Equal(low, []byte(word)) || len(word) != 4 && len(word) <= 2 && bytes.HasPrefix(low, []byte(word)) || word == "xxxx" && bytes.HasPrefix(low, []byte(word)) {
			return false
		}
	}
	return low[0] != '$' && low[0] != '/' && low[0] != '*'
}

// networkRules find secrets of networks, of installers and of services.
func networkRules() []*rule {
	const etc = `(?:^|/)etc/`
	return []*rule{
		{
			id: "wifi-psk", description: "key of a wireless network", keywords: []string{"psk", "wpa_passphrase", "passphrase", "password"},
			path: re(etc + `(?:netplan|NetworkManager/system-connections|wpa_supplicant|hostapd|iwd)/|(?:^|/)lib/iwd/[^/]+\.psk$|wpa_supplicant[^/]*\.conf$`),
			re:   re(`(?im)^\s*(?:psk|wpa_passphrase|Passphrase|PreSharedKey|password|private-key-password|wep-key\d|secret)["']?\s*[:=]\s*["']?([^\s"'#]{4,128})`),
		},
		{
			id: "ipsec-secret", description: "preshared key of IPsec", keywords: []string{" psk ", " xauth ", " eap "}, path: re(etc + `(?:ipsec\.secrets|ipsec\.d/|swanctl/|strongswan)`),
			re: re(`(?i):\s*(?:PSK|XAUTH|EAP)\s+["']?([^\s"']{4,})`),
		},
		{
			id: "ppp-secret", description: "password of a dial-up peer", keywords: []string{"*", "\"", "\t"}, path: re(etc + `ppp/(?:chap|pap)-secrets$`),
			re: re(`(?m)^[^#\s]\S*\s+\S+\s+["']?([^\s"']{3,})`),
		},
		{
			id: "dns-key", description: "key of a DNS server", keywords: []string{"secret"}, path: re(etc + `(?:bind/|named|rndc|unbound|knot|nsd|powerdns)`),
			re: re(`(?i)\bsecret:?\s+"?([A-Za-z0-9+/=]{16,})`),
		},
		{
			id: "ceph-key", description: "key of Ceph", keywords: []string{"key = "}, path: re(`(?:^|/)(?:etc|var/lib)/ceph/|\.keyring$`),
			re: re(`\bkey = (AQ[A-Za-z0-9+/]{36}==)`),
		},
		{
			id: "installer-password", description: "password in an installer's answers", keywords: []string{"passw", "rootpw"},
			re:    re(`(?im)^\s*(?:d-i\s+passwd/(?:root|user)-password(?:-again|-crypted)?\s+(?:password|string)\s+(\S{3,})|rootpw\s+(?:--(?:iscrypted|plaintext|allow-ssh)\s+)*([^\s-]\S{2,})\s*$)`),
			loose: true,
		},
		{
			id: "answers-password", description: "password in the answers of an installation", keywords: []string{"k_"},
			re: re(`(?m)^\s*(?:export\s+)?["']?K_[A-Z0-9_]*(?:PASS(?:WORD|PHRASE)?|SECRET|TOKEN|KEY)["']?\s*[:=]\s*["']?([^\s"'#]{4,})`), check: notPlaceholder, loose: true,
		},
		{
			id: "cloud-init-password", description: "password in user-data", keywords: []string{"passw", "chpasswd", "plain_text_passwd"}, path: re(`user-data|vendor-data|cloud\.cfg|cloud-config|/seed/|cloud/instances?/`),
			re: re(`(?im)^[\s-]*(?:password|passwd|plain_text_passwd|hashed_passwd)\s*:\s*["']?([^\s"'#]{4,})`),
		},
		{
			id: "systemd-network-key", description: "key of a network device", keywords: []string{"key"}, path: re(`systemd/network/[^/]+\.netdev$`),
			re: re(`(?im)^\s*(?:PrivateKey|PresharedKey|Key)\s*=\s*([A-Za-z0-9+/=]{16,})`),
		},
	}
}
