// Package darksite makes, opens, proves and serves offline package mirrors: a
// folder with a signed apt repository that holds every package some profiles
// of a release need, and a lock that names each of them.
//
// Create is the only code of the project that reads the network on its own
// account, and it does so through apt, which checks upstream's signatures.
// A darksite appears under its name whole or not at all: it is put together
// in "DIR.partial", where an interrupted run goes on, and renamed.
//
//	DIR/darksite.lock        Lock, JSON: every package, its digest; the darksite's identity
//	DIR/darksite.gpg         public half of the key that signed InRelease
//	DIR/dists/RELEASE/InRelease, main/binary-ARCH/Packages{,.gz}
//	DIR/pool/main/…          the packages
//
// Supported: Debian bookworm on amd64. Not supported: source packages,
// foreign architectures, other distributions, deltas between two darksites.
//
// Repository format: https://wiki.debian.org/DebianRepository/Format.
package darksite
