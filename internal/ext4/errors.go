package ext4

import "fmt"

// NoSpaceError says that an image is too small for what was put into it.
type NoSpaceError struct {
	Path      string // what was being written
	Resource  string // "blocks" or "inodes"
	Needed    int64  // in this request, in units of Resource
	Available int64  // left in the image
	Size      int64  // of the image, in bytes
}

func (e *NoSpaceError) Error() string {
	if e.Resource == "inodes" {
		return fmt.Sprintf("ext4: writing %q: no inodes left: image of %s has %d free, %d more wanted",
			e.Path, formatSize(e.Size), e.Available, e.Needed)
	}
	return fmt.Sprintf("ext4: writing %q: no space left: image of %s has %s free, %s more wanted",
		e.Path, formatSize(e.Size), formatSize(e.Available*blockSize), formatSize(e.Needed*blockSize))
}

func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
