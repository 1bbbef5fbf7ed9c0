package sbom

// known maps Debian's short names, in lower case, to SPDX licences (copyright
// format 7.1, https://spdx.org/licenses/). "public-domain" and other words that
// stand for a different text each time are not in it.
var known = map[string]string{
	"0bsd": "0BSD", "agpl-3": "AGPL-3.0-only", "agpl-3+": "AGPL-3.0-or-later", "agpl-3.0": "AGPL-3.0-only",
	"agpl-3.0+": "AGPL-3.0-or-later", "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0",
	"artistic": "Artistic-1.0-Perl", "artistic-1": "Artistic-1.0-Perl", "artistic-2": "Artistic-2.0",
	"artistic-2.0": "Artistic-2.0", "beerware": "Beerware", "bsd-1-clause": "BSD-1-Clause",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause",
	"bsd-4-clause-uc": "BSD-4-Clause-UC", "bsl-1.0": "BSL-1.0", "bzip2-1.0.6": "bzip2-1.0.6", "cc-by-3.0": "CC-BY-3.0",
	"cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc0": "CC0-1.0",
	"cc0-1.0": "CC0-1.0", "cddl": "CDDL-1.0", "cddl-1.0": "CDDL-1.0", "curl": "curl", "epl-1.0": "EPL-1.0",
	"epl-2.0": "EPL-2.0", "expat": "MIT", "fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR",
	"gfdl-1.1": "GFDL-1.1-only", "gfdl-1.1+": "GFDL-1.1-or-later", "gfdl-1.2": "GFDL-1.2-only",
	"gfdl-1.2+": "GFDL-1.2-or-later", "gfdl-1.3": "GFDL-1.3-only", "gfdl-1.3+": "GFDL-1.3-or-later",
	"gfdl-niv-1.1": "GFDL-1.1-no-invariants-only", "gfdl-niv-1.1+": "GFDL-1.1-no-invariants-or-later",
	"gfdl-niv-1.2": "GFDL-1.2-no-invariants-only", "gfdl-niv-1.2+": "GFDL-1.2-no-invariants-or-later",
	"gfdl-niv-1.3": "GFDL-1.3-no-invariants-only", "gfdl-niv-1.3+": "GFDL-1.3-no-invariants-or-later",
	"gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-1.0": "GPL-1.0-only", "gpl-1.0+": "GPL-1.0-or-later",
	"gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later", "gpl-2.0": "GPL-2.0-only", "gpl-2.0+": "GPL-2.0-or-later",
	"gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "gpl-3.0": "GPL-3.0-only", "gpl-3.0+": "GPL-3.0-or-later",
	"hpnd": "HPND", "icu": "ICU", "isc": "ISC", "lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later",
	"lgpl-2.0": "LGPL-2.0-only", "lgpl-2.0+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only",
	"lgpl-2.1+": "LGPL-2.1-or-later", "lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later",
	"lgpl-3.0": "LGPL-3.0-only", "lgpl-3.0+": "LGPL-3.0-or-later", "lppl-1.3c": "LPPL-1.3c", "mit": "MIT",
	"mpl-1.1": "MPL-1.1", "mpl-2": "MPL-2.0", "mpl-2.0": "MPL-2.0", "ntp": "NTP", "ofl-1.1": "OFL-1.1",
	"oldap-2.8": "OLDAP-2.8", "openssl": "OpenSSL", "postgresql": "PostgreSQL", "psf-2": "PSF-2.0", "psf-2.0": "PSF-2.0",
	"python-2.0": "Python-2.0", "ruby": "Ruby", "sil-1.1": "OFL-1.1", "sleepycat": "Sleepycat", "tcl": "TCL",
	"unicode-dfs-2016": "Unicode-DFS-2016", "unlicense": "Unlicense", "vim": "Vim", "w3c": "W3C", "wtfpl": "WTFPL",
	"x11": "X11", "zlib": "Zlib", "zpl-2.1": "ZPL-2.1",
}
