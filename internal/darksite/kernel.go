package darksite

import (
	"context"
	"fmt"
	"strings"
)

// zfsTools is the package whose version the modules must have.
const zfsTools = "zfsutils-linux"

// findKernels finds the versioned kernel of each wanted flavour and the ZFS
// version that will be compiled for it.
func (q *request) findKernels(ctx context.Context, u *upstream) ([]Kernel, error) {
	kernels := []Kernel{}
	if len(q.Kernels) == 0 {
		return kernels, nil
	}
	zfs, err := u.show(ctx, "zfs-dkms")
	if err != nil {
		return nil, fmt.Errorf("%w\nhint: it is in Debian's contrib; a mirror without it makes a darksite with --kernel none", err)
	}
	tools, err := u.show(ctx, zfsTools)
	if err != nil {
		return nil, err
	}
	if zfs.get("Version") != tools.get("Version") {
		return nil, fmt.Errorf("zfs-dkms is %s and %s is %s: want one version\nhint: the mirror is between two updates; try again later",
			zfs.get("Version"), zfsTools, tools.get("Version"))
	}
	for _, flavour := range q.Kernels {
		k, err := findKernel(ctx, u, flavour, q.release.kernels[flavour]+q.Arch)
		if err != nil {
			return nil, err
		}
		k.ZFSModules = ZFSModules{Package: "zfs-modules-" + k.ABI, Version: modulesVersion(zfs.get("Version"), k.Version),
			ZFSVersion: zfs.get("Version")}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// modulesVersion is the version of a zfs-modules package: that of ZFS, then
// that of the kernel with its hyphens out of the way (Debian Policy 5.6.12).
func modulesVersion(zfs, kernel string) string {
	return zfs + "+" + strings.NewReplacer("-", ".", ":", ".").Replace(kernel)
}

// findKernel follows a meta package to the image it depends on.
func findKernel(ctx context.Context, u *upstream, flavour, meta string) (Kernel, error) {
	st, err := u.show(ctx, meta)
	if err != nil {
		return Kernel{}, err
	}
	for _, dep := range strings.Split(st.get("Depends"), ",") {
		dep, _, _ = strings.Cut(dep, "(")
		name := strings.TrimSpace(dep)
		abi, ok := strings.CutPrefix(name, "linux-image-")
		if !ok {
			continue
		}
		image, err := u.show(ctx, name)
		if err != nil {
			return Kernel{}, err
		}
		return Kernel{Flavour: flavour, Meta: meta, Package: name, ABI: abi, Version: image.get("Version")}, nil
	}
	return Kernel{}, fmt.Errorf("kernel %q: %s %s depends on no linux-image-*: %q", flavour, meta, st.get("Version"), st.get("Depends"))
}
