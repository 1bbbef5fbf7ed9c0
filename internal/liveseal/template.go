package liveseal

import (
	"fmt"
	"os"
	"path/filepath"
)

// TemplateFile marks a machine as one that is made to be sealed. The seal
// takes it out: what starts from the image is a machine.
const TemplateFile = "etc/kldload/image-template"

// templateVariable is set for the scripts of a Packer build, and of ours.
const templateVariable = "PACKER_BUILD_NAME"

// CheckTemplate tells whether the machine at root is one to be sealed without
// asking: it runs below a provisioner, is marked, or was sealed since it
// started (the folder at memory).
func CheckTemplate(root string, getenv func(string) string) error {
	if getenv(templateVariable) != "" {
		return nil
	}
	for _, name := range []string{TemplateFile, memory + "/kexport"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("sealing this machine: it is not an image template: there is no /%s, and %s is not set\n"+
		"hint: sealing takes host keys, passwords, logs and the machine's identity away, for good;\n"+
		"      --dry-run shows what, --yes does it", TemplateFile, templateVariable)
}

// CheckRoot wants the user who may do all that.
func CheckRoot(euid int) error {
	if euid != 0 {
		return fmt.Errorf("sealing this machine: want root, have user id %d\nhint: sudo kexport seal", euid)
	}
	return nil
}
