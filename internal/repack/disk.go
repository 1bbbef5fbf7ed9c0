package repack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/volume"
)

const (
	sectorSize = 512
	bootCode   = 440 // of sector 0, before the disk's signature (UEFI 2.10, table 5-1)
	mbrTable   = 446 // of sector 0
	copyPiece  = 1 << 20
	gapLimit   = 16 << 20 // before the first partition of an MBR
)

// write lays the disk out and fills it.
func (j *job) write() (string, error) {
	if err := j.out.Truncate(j.in.Size()); err != nil {
		return "", fmt.Errorf("creating the new disk: %w", err)
	}
	if err := j.writeTable(); err != nil {
		return "", err
	}
	parts := []string{}
	if j.disk.Table != nil {
		parts = append(parts, "GPT")
	}
	for _, v := range j.disk.Volumes {
		stats, err := j.writeVolume(v)
		if err != nil {
			return "", fmt.Errorf("writing the new disk: %s: %w", v.Name(), err)
		}
		stats.Name, stats.Kind = v.Name(), string(v.Kind)
		j.report.Volumes = append(j.report.Volumes, stats)
		text := string(v.Kind)
		if stats.Files > 0 {
			text += fmt.Sprintf(" %d files", stats.Files)
		}
		if v.Kind != volume.None {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " · "), nil
}

// writeTable writes the partition table, with the boot code that was there.
func (j *job) writeTable() error {
	switch {
	case j.disk.Table != nil:
		return j.writeGPT()
	case j.disk.MBR:
		return j.writeMBR()
	}
	return nil
}

func (j *job) writeGPT() error {
	t := *j.disk.Table
	t.Align = int64(max(t.SectorSize, sectorSize))
	if t.Problem != "" {
		j.note("the input's partition table was damaged, the new one is whole: %s", t.Problem)
	}
	if err := gpt.Write(bounded{j.ctx, j.out, 0, j.in.Size()}, t); err != nil {
		return err
	}
	code := make([]byte, bootCode)
	if _, err := j.in.ReadAt(code, 0); err != nil {
		return fmt.Errorf("reading the boot code: %w", err)
	}
	_, err := j.out.WriteAt(code, 0)
	return err
}

// writeMBR copies the sectors before the first partition: the table, and what
// a boot loader keeps behind it.
func (j *job) writeMBR() error {
	first := int64(gapLimit)
	for _, v := range j.disk.Volumes {
		first = min(first, v.Partition.Start)
	}
	sector := make([]byte, sectorSize)
	if _, err := j.in.ReadAt(sector, 0); err != nil {
		return fmt.Errorf("reading the partition table: %w", err)
	}
	used := 0
	for i := range 4 {
		if sector[mbrTable+16*i+4] != 0 {
			used++
		}
	}
	if used != len(j.disk.Volumes) {
		return errors.New("the MBR has an extended partition, or one outside of the disk: not supported\nhint: want primary partitions, or a GUID partition table (sgdisk --mbrtogpt on a copy of the disk)")
	}
	return j.copyBytes(0, first)
}

// writeVolume writes one volume anew.
func (j *job) writeVolume(v *volume.Volume) (VolumeStats, error) {
	switch v.Kind {
	case volume.Ext4:
		return j.writeExt4(v)
	case volume.ZFS:
		return j.writePool(v)
	case volume.FAT:
		return j.writeFAT(v)
	case volume.Swap:
		return VolumeStats{}, j.writeSwap(v)
	}
	if isBIOSBoot(v) {
		return VolumeStats{}, j.copyBytes(v.Partition.Start, v.Partition.Size)
	}
	return VolumeStats{}, nil // zeros
}

// isBIOSBoot knows the partition that holds a boot loader and no file system.
func isBIOSBoot(v *volume.Volume) bool { return v.Partition.Type == gpt.TypeBIOSBoot }

// copyBytes copies a range of the disk, without its zeros.
func (j *job) copyBytes(start, size int64) error {
	return j.eachData(start, size, func(off int64, b []byte) (bool, error) {
		if bytes.Equal(b, zeros[:len(b)]) {
			return true, nil
		}
		_, err := j.out.WriteAt(b, off)
		return true, err
	})
}

// allZero tells whether a range of the disk holds nothing.
func (j *job) allZero(start, size int64) (zero bool, err error) {
	zero = true
	err = j.eachData(start, size, func(_ int64, b []byte) (bool, error) {
		zero = bytes.Equal(b, zeros[:len(b)])
		return zero, nil
	})
	return zero, err
}

var zeros [copyPiece]byte

// eachData reads what is stored of a range, until f wants no more.
func (j *job) eachData(start, size int64, f func(off int64, b []byte) (bool, error)) error {
	buf, limit := make([]byte, copyPiece), start+size
	for off := start; off < limit; {
		if j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		from, to, err := j.in.NextData(off)
		if err != nil {
			return err
		}
		from = max(from, off)
		if from >= limit {
			return nil
		}
		b := buf[:min(copyPiece, min(to, limit)-from)]
		if n, err := j.in.ReadAt(b, from); n < len(b) {
			return unexpected(err)
		}
		more, err := f(from, b)
		if err != nil || !more {
			return err
		}
		off = from + int64(len(b))
	}
	return nil
}

// section is a volume's place on the new disk.
func (j *job) section(v *volume.Volume) io.WriterAt {
	return bounded{j.ctx, j.out, v.Partition.Start, v.Partition.Size}
}

// bounded writes into a part of the disk, while ctx lasts.
type bounded struct {
	ctx          context.Context
	w            io.WriterAt
	offset, size int64
}

func (b bounded) WriteAt(p []byte, off int64) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	if off < 0 || off+int64(len(p)) > b.size {
		return 0, fmt.Errorf("writing %d bytes at %d: the volume has %d", len(p), off, b.size)
	}
	return b.w.WriteAt(p, b.offset+off)
}

// reopen opens the root of the new disk.
func (j *job) reopen() (*volume.Root, error) {
	d, err := volume.Open(j.out, j.in.Size())
	if err != nil {
		return nil, fmt.Errorf("reading the new disk back: %w", err)
	}
	root, err := d.Root()
	if err != nil {
		return nil, fmt.Errorf("reading the new disk back: %w", err)
	}
	return root, nil
}
