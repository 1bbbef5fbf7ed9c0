package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/sbom"
	"github.com/kldload/kldload/internal/volume"
)

type sbomOptions struct {
	format, output string
}

func newSBOMCommand(a *app) *cobra.Command {
	var o sbomOptions
	c := &cobra.Command{
		Use:     "sbom IMAGE|DIR",
		GroupID: groupLook,
		Short:   "List the packages of an image or a tree as SPDX or CycloneDX",
		Long: `Write the software bill of materials of IMAGE, in any format that kexport reads
and with its root on ZFS or ext4, or of the tree in the folder DIR. Nothing is
mounted or run: dpkg's database is read from the file system in the image.

The time in the document is SOURCE_DATE_EPOCH; unset, that of the package
database. The same image gives the same bytes.`,
		Example: `  kldload sbom output/kldload-server/kldload-server.qcow2 --output server.spdx.json
  kldload sbom --format cyclonedx foreign.vmdk | jq '.components[].purl'`,
		Args: exactArgs("IMAGE|DIR"),
		RunE: func(c *cobra.Command, args []string) error { return runSBOM(c.Context(), a, o, args[0]) },
	}
	c.Flags().StringVar(&o.format, "format", "spdx", "`FORMAT` of the document: spdx (2.3) or cyclonedx (1.6), both JSON")
	c.Flags().StringVarP(&o.output, "output", "o", "", "write to `FILE` instead of standard output")
	return c
}

func runSBOM(ctx context.Context, a *app, o sbomOptions, path string) error {
	write, ok := map[string]func(*sbom.Inventory, sbom.Document) ([]byte, error){
		"spdx": (*sbom.Inventory).SPDX, "cyclonedx": (*sbom.Inventory).CycloneDX,
	}[o.format]
	if !ok {
		return usagef("--format %q: want spdx or cyclonedx", o.format)
	}
	epoch, err := sourceDateEpoch()
	if err != nil {
		return err
	}
	inv, doc, err := readInventory(ctx, path)
	if err != nil {
		return fmt.Errorf("listing the packages of %q: %w", path, err)
	}
	doc.Version, doc.Created = version(), epoch
	if epoch.IsZero() {
		doc.Created = inv.Changed
	}
	text, err := write(inv, doc)
	if err != nil {
		return err
	}
	if o.output == "" {
		_, err := a.stdout.Write(text)
		return err
	}
	if err := atomicfile.WriteFile(o.output, text, 0o644); err != nil {
		return err
	}
	a.ui.Result(fmt.Sprintf("%s: %s, %d packages", o.output, inv.OS.Name, len(inv.Packages)), o.output,
		map[string]any{"file": o.output, "format": o.format, "os": inv.OS.Name, "packages": len(inv.Packages)})
	return nil
}

// readInventory looks into a folder or an image.
func readInventory(ctx context.Context, path string) (*sbom.Inventory, sbom.Document, error) {
	name := filepath.Base(absolutePath(path))
	st, err := os.Stat(path)
	if err != nil {
		return nil, sbom.Document{}, err
	}
	if st.IsDir() {
		d, err := sbom.OpenDir(path)
		if err != nil {
			return nil, sbom.Document{}, err
		}
		inv, err := sbom.Read(d)
		return inv, sbom.Document{Name: name}, errors.Join(err, d.Close())
	}
	inv, err := imageInventory(ctx, path)
	if err != nil {
		return nil, sbom.Document{}, err
	}
	sum, err := fileSHA256(path)
	doc := sbom.Document{Name: strings.TrimSuffix(name, filepath.Ext(name)), Artifacts: []sbom.Artifact{{Name: name, SHA256: sum}}}
	return inv, doc, err
}

func absolutePath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func imageInventory(ctx context.Context, path string) (*sbom.Inventory, error) {
	img, err := export.Open(ctx, path, diskimage.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer img.Close()
	d, err := volume.Open(img, img.Size())
	if err != nil {
		return nil, err
	}
	root, err := d.Root()
	if err != nil {
		return nil, err
	}
	return sbom.Read(root)
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hashing %q: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
