package template

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/kldload/kldload/internal/suggest"
)

// sourceBlock is a source block, not read yet: what it names is known only
// where it is used.
type sourceBlock struct {
	block *hclsyntax.Block
	used  bool
	bad   bool // of a type that is not built: said once
}

// builders are source types of Packer, and what to do instead.
var builders = map[string]string{
	"qemu":          "use source \"kldload\": it makes the same image from a darksite without a VM",
	"amazon-ebs":    "build with source \"kldload\"; the image is published to AWS afterwards",
	"googlecompute": "build with source \"kldload\"; the image is published to GCP afterwards",
	"azure-arm":     "build with source \"kldload\"; the image is published to Azure afterwards",
}

func (l *loader) collectSource(b *hclsyntax.Block) {
	if !l.labels(b, "TYPE NAME") {
		return
	}
	id := b.Labels[0] + "." + b.Labels[1]
	if old := l.sources[id]; old != nil {
		l.errorf(b.DefRange(), "first defined at "+l.position(old.block.DefRange()).String(), "source %q defined twice", id)
		return
	}
	s := &sourceBlock{block: b, bad: !l.sourceType(b)}
	if !hclsyntax.ValidIdentifier(b.Labels[1]) {
		l.errorf(b.LabelRanges[1], "letters, digits, _ and -, a letter first", "source name %q is not an identifier", b.Labels[1])
		s.bad = true
	}
	l.sources[id] = s
	l.order = append(l.order, id)
}

func (l *loader) sourceType(b *hclsyntax.Block) bool {
	ty := b.Labels[0]
	if ty == "kldload" {
		return true
	}
	hint, ok := builders[ty]
	if !ok {
		hint = suggest.Hint(ty, []string{"kldload"})
	}
	l.errorf(b.LabelRanges[0], hint, "source %q is not built by this version", ty)
	return false
}

// source reads the source id under a name; more holds the settings the build
// adds, nil for none.
func (l *loader) source(id, name string, more *hclsyntax.Body, s *scope) (Source, bool) {
	def := l.sources[id]
	def.used = true
	if def.bad {
		return Source{}, false
	}
	r := l.read("source \"kldload\"", def.block, s)
	if more != nil {
		r.bodies = append(r.bodies, more)
	}
	r.foreign = withoutVM
	src := Source{Type: def.block.Labels[0], Name: name, Range: l.position(def.block.DefRange())}
	src.Kldload = l.kldload(r, name)
	r.finish()
	return src, true
}

// unusedSources reads the sources no build uses, so that their mistakes show.
func (l *loader) unusedSources() {
	for _, id := range l.order {
		def := l.sources[id]
		if !def.used && !def.bad {
			l.source(id, def.block.Labels[1], nil, l.full("in a source").with("source", sourceValues(def.block.Labels[0], def.block.Labels[1])).
				with("build", map[string]cty.Value{"name": cty.StringVal("")}))
		}
	}
}

func sourceValues(ty, name string) map[string]cty.Value {
	return map[string]cty.Value{"type": cty.StringVal(ty), "name": cty.StringVal(name)}
}

// Defaults of source "kldload"; docs/templates.md repeats them.
const (
	defaultDistro      = "debian"
	defaultRelease     = "bookworm"
	defaultProfile     = "server"
	defaultKernel      = "generic"
	defaultStorage     = "zfs"
	defaultDiskSize    = 8 << 30
	defaultTimezone    = "UTC"
	defaultLocale      = "C.UTF-8"
	defaultBootTimeout = 10 * time.Minute
)

func (l *loader) kldload(r *reader, name string) *Kldload {
	k := &Kldload{
		Darksite:        r.required("darksite"),
		DarksiteDigest:  r.checked("darksite_digest", "", checkDigest),
		Distro:          r.checked("distro", defaultDistro, checkWord),
		Release:         r.checked("release", defaultRelease, checkWord),
		Profile:         r.checked("profile", defaultProfile, checkWord),
		Kernel:          r.checked("kernel", defaultKernel, oneOf("generic", "cloud")),
		ExtraPackages:   r.strings("extra_packages", checkPackage),
		DiskSize:        r.size("disk_size", defaultDiskSize),
		Storage:         r.checked("storage", defaultStorage, oneOf("zfs", "ext4")),
		Hostname:        r.checked("hostname", "", checkHostname),
		Timezone:        r.checked("timezone", defaultTimezone, checkTimezone),
		Locale:          r.checked("locale", defaultLocale, checkLocale),
		Users:           r.users(),
		OutputDirectory: r.checked("output_directory", "output-"+name, checkNotEmpty),
		VMName:          r.checked("vm_name", name, checkFileName),
		SkipBoot:        r.boolean("skip_boot", false),
		BootTimeout:     r.duration("boot_timeout", defaultBootTimeout),
		Checks:          r.file("checks"),
		SignKey:         r.str("sign_key", ""),
		ScanAllow:       r.file("scan_allow"),
	}
	k.KernelParameters = r.kernelParameters()
	k.Pool = r.pool(k.Storage)
	for _, ext := range []string{".qcow2", ".raw", ".img", ".vmdk", ".vhd", ".vhdx", ".ova"} { // Packer's qemu names the file, kexport the set
		k.VMName = strings.TrimSuffix(k.VMName, ext)
	}
	return k
}

// kernelParameters takes a list, or one string split at blanks.
func (r *reader) kernelParameters() []string {
	const name = "kernel_parameters"
	a := r.attr(name)
	if a == nil {
		return nil
	}
	v, ok := r.l.eval(a.Expr, r.scope)
	if !ok || v.IsNull() {
		return nil
	}
	if v.Type() != cty.String {
		return r.strings(name, checkParameter)
	}
	list := strings.Fields(v.AsString())
	for _, p := range list {
		r.test(a.Expr.Range(), name, p, checkParameter)
	}
	return list
}

const noEncryption = "ZFS encryption is not written yet: encrypt the disk that the image is deployed to, or make an encrypted\n" +
	"dataset on the running machine (zfs create -o encryption=on -o keyformat=passphrase)"

// withoutVM are settings of Packer's builders that have no meaning without a VM.
var withoutVM = func() map[string]string {
	m := map[string]string{
		"format":         `the formats are chosen by post-processor "kexport" { formats = ["qcow2"] }`,
		"iso_url":        "the system is installed from the darksite: darksite = \"…\"",
		"iso_checksum":   "the darksite's lock holds the digest of every package; pin it with darksite_digest",
		"ssh_password":   "no password is set in an image; users { ssh_authorized_keys = […] } lets people in",
		"disk_image":     "the system is installed from the darksite: darksite = \"…\"",
		"packages":       "use extra_packages",
		"kernel_cmdline": "use kernel_parameters",
		"encryption":     noEncryption,
		"keyformat":      noEncryption,
	}
	for _, name := range []string{"accelerator", "boot_command", "boot_wait", "communicator", "cpus", "cd_content",
		"cd_files", "cd_label", "disk_interface", "efi_boot", "efi_firmware_code", "efi_firmware_vars", "headless",
		"http_directory", "machine_type", "memory", "net_device", "qemuargs", "shutdown_command", "shutdown_timeout",
		"ssh_handshake_attempts", "ssh_timeout", "ssh_username", "vnc_port_min", "vnc_port_max"} {
		m[name] = "no VM is made to build the image: remove it"
	}
	return m
}()

// references lists what a build may use, for suggestions.
func (l *loader) references() []string {
	var refs []string
	for _, id := range slices.Sorted(maps.Keys(l.sources)) {
		refs = append(refs, "source."+id)
	}
	return refs
}
