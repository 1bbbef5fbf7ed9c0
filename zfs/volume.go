package zfs

import (
	"fmt"
	"io"
	"math"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Objects of a volume's set (sys/zvol_impl.h).
const (
	volumeData  = 1 // ZVOL_OBJ
	volumeProps = 2 // ZVOL_ZAP_OBJ
)

// Volume opens the content of a volume ("rpool/swap") or of a snapshot of one. File
// systems and encrypted volumes are errors.
func (p *Pool) Volume(name string) (*File, error) {
	s := p.findSet(name)
	if s == nil {
		return nil, fmt.Errorf("zfs: opening volume %q: the pool has none of that name", name)
	}
	f, err := p.openVolume(s)
	if err != nil {
		return nil, fmt.Errorf("zfs: opening volume %q: %w", name, err)
	}
	return f, nil
}

func (p *Pool) openVolume(s *setNode) (*File, error) {
	if s.in.encrypted {
		return nil, ErrEncrypted
	}
	set, err := p.dev.openObjset(s.name, &s.bp)
	if err != nil {
		return nil, err
	}
	if set.phys.Type != ondisk.ObjsetZVOL {
		return nil, fmt.Errorf("its object set has type %d: want a volume's, %d", set.phys.Type, ondisk.ObjsetZVOL)
	}
	ob, err := set.typed(volumeData, ondisk.TypeZvol)
	if err != nil {
		return nil, err
	}
	size, err := set.need(volumeProps, "size")
	if err != nil {
		return nil, err
	}
	if size > math.MaxInt64 {
		return nil, fmt.Errorf("a volume of %d bytes", size)
	}
	in := &fileNode{ob: ob}
	in.Mode, in.Size, in.Dataset, in.Ino = modeRegular|0o600, int64(size), s.name, ob.id
	body := &fileBody{ob: ob, name: s.name, size: in.Size}
	return &File{io.NewSectionReader(body, 0, in.Size), body, fileInfo{s.name, &in.Node, in}}, nil
}
