#!/bin/sh
# Adds Debian's component contrib to apt, as root, for scripts/deps.sh: the
# sources that the host has for main of its release once more, in files of our
# own, kldload-contrib.*. The host's files stay as they are. Their options are
# copied, since apt refuses sources of one archive whose Signed-By differ.
# Needs apt's lists to be there; the caller updates them afterwards.
set -eu

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# Of which archives apt itself says that they are Debian's.
# shellcheck disable=SC2016 # apt's own variables
archives=$(apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(COMPONENT) $(REPO_URI)' |
	awk '$1 $2 $3 == "PackagesDebianmain" { print $4 }' | sort -u)
if [ -z "$codename" ] || [ -z "$archives" ]; then
	echo "error: adding contrib to apt: the host's apt has no source of Debian's main for \"$codename\"" >&2
	exit 1
fi

# wanted is awk's part that both forms of sources.list(5) share.
wanted='
	BEGIN { n = split(archives, a); for (i = 1; i <= n; i++) known[bare(a[i])] = 1 }
	function bare(uri) { sub("/+$", "", uri); return uri }
	function of_release(suite) { return suite == codename || index(suite, codename "-") == 1 }'

# one_line prints what a file in the one-line form has, with contrib for main.
one_line() {
	awk -v archives="$archives" -v codename="$codename" "$wanted"'
	$1 == "deb" {
		sub(/#.*/, "")
		options = ""
		if (match($0, /\[[^]]*\]/)) {
			options = substr($0, RSTART, RLENGTH) " "
			sub(/\[[^]]*\]/, "")
		}
		main = 0
		for (i = 4; i <= NF; i++) if ($i == "main") main = 1
		if (main && known[bare($2)] && of_release($3)) print "deb " options $2 " " $3 " contrib"
	}' "$1"
}

# deb822 does so for the other form: paragraphs of fields.
deb822() {
	awk -v archives="$archives" -v codename="$codename" "$wanted"'
	BEGIN { RS = ""; FS = "\n" }
	{
		rest = ""
		main = suite = archive = deb = off = 0
		for (i = 1; i <= NF; i++) {
			line = $i
			if (line ~ /^#/) continue
			if (line !~ /^[ \t]/) {
				field = tolower(substr(line, 1, index(line, ":") - 1))
				sub(/:/, ": ", line)
			}
			m = split(line, word, /[ \t]+/)
			for (j = 2; j <= m; j++) {
				if (field == "types" && word[j] == "deb") deb = 1
				if (field == "uris" && known[bare(word[j])]) archive = 1
				if (field == "suites" && of_release(word[j])) suite = 1
				if (field == "components" && word[j] == "main") main = 1
				if (field == "enabled" && tolower(word[j]) == "no") off = 1
			}
			if (field != "types" && field != "components") rest = rest $i "\n"
		}
		if (deb && archive && suite && main && !off) print "Types: deb\nComponents: contrib\n" rest
	}' "$1"
}

list= parts= # set by apt-config
eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
parts=${parts%/}
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for f in "$list" "$parts"/*.list "$parts"/*.sources; do
	case $f in
	*/kldload-contrib.*) continue ;;
	*.sources) [ ! -e "$f" ] || deb822 "$f" >>"$found/kldload-contrib.sources" ;;
	*) [ ! -e "$f" ] || one_line "$f" >>"$found/kldload-contrib.list" ;;
	esac
done
mkdir -p "$parts"
for f in "$found"/*; do
	[ -s "$f" ] || continue
	echo "adding contrib to apt: $parts/${f##*/}"
	install -m 644 "$f" "$parts"
done
