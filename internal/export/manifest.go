package export

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kldload/kldload/diskimage"
)

// ManifestSuffix and ChecksumSuffix end the names of the files beside images.
const (
	ManifestSuffix = ".manifest.json"
	ChecksumSuffix = ".sha256"
)

// manifestSchema counts incompatible changes of Manifest.
const manifestSchema = 1

// Manifest describes the images of one pass. It holds no time and no path, so
// that the same input gives the same bytes.
type Manifest struct {
	Schema  int      `json:"schema"`
	Input   Input    `json:"input"`
	Outputs []Output `json:"outputs"`
}

// Input is what the images were made from.
type Input struct {
	File        string           `json:"file,omitempty"` // without a folder; "" for a stream
	Format      diskimage.Format `json:"format"`
	Size        int64            `json:"size"` // of the file, in bytes
	VirtualSize int64            `json:"virtual_size"`
}

// Manifest gives the manifest's bytes.
func MarshalManifest(in Input, outs []Output) ([]byte, error) {
	m := Manifest{Schema: manifestSchema, Input: in}
	for _, o := range outs {
		o.Path = ""
		m.Outputs = append(m.Outputs, o)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// Checksum is the text of the file beside an image, as sha256sum writes it and
// sha256sum -c reads it: a name with a backslash or line break is escaped and
// the line begins with a backslash (coreutils manual, "md5sum invocation").
func (o *Output) Checksum() []byte {
	name := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(o.File)
	mark := ""
	if name != o.File {
		mark = `\`
	}
	return fmt.Appendf(nil, "%s%s  %s\n", mark, o.SHA256, name)
}
