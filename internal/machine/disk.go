package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/ui"
)

// Disk is an image as QEMU sees it; the format is told by its content.
type Disk struct {
	Image  string `json:"image"`
	Format string `json:"format"`
	Size   int64  `json:"size"` // virtual bytes, of the clone
}

// inspect asks qemu-img what an image is.
func inspect(ctx context.Context, image string) (Disk, error) {
	st, err := os.Stat(image)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return Disk{}, fmt.Errorf("image %q: %w", image, err)
	}
	if st.IsDir() {
		return Disk{}, fmt.Errorf("image %q is a folder\nhint: give a file in it, such as a .qcow2", image)
	}
	if !st.Mode().IsRegular() {
		return Disk{}, fmt.Errorf("image %q is not a file", image)
	}
	path, err := filepath.Abs(image)
	if err != nil {
		return Disk{}, err
	}
	out, err := run.Output(ctx, run.Cmd{Doing: fmt.Sprintf("reading image %q", image),
		Args: []string{"qemu-img", "info", "--output=json", "--", path}})
	if err != nil {
		return Disk{}, err
	}
	var info struct {
		Format string `json:"format"`
		Size   int64  `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return Disk{}, fmt.Errorf("reading image %q: %w", image, err)
	}
	return Disk{Image: path, Format: info.Format, Size: info.Size}, nil
}

// cloneSize is the size of the clone's disk.
func cloneSize(image int64, cfg Config) (int64, error) {
	if cfg.DiskSize == 0 {
		return image + cfg.GrowBy, nil
	}
	if cfg.DiskSize < image {
		return 0, fmt.Errorf("disk size %s: the image has %s already", ui.Bytes(cfg.DiskSize), ui.Bytes(image))
	}
	return cfg.DiskSize, nil
}

// makeOverlay makes the qcow2 file that takes the clone's writes.
func makeOverlay(ctx context.Context, to string, d Disk) error {
	return run.Run(ctx, run.Cmd{Doing: "making the overlay", Args: []string{"qemu-img", "create", "-q", "-f", "qcow2",
		"-b", d.Image, "-F", d.Format, "--", to, fmt.Sprint(d.Size)}})
}
