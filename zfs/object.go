package zfs

import (
	"fmt"
	"io"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// object is a dnode that waits for its blocks; it belongs to the committer
// once its first block is put.
type object struct {
	fs     *filesystem
	number uint64
	typ    ondisk.ObjectType
	path   string
	attrs  sa.Encoded
	uid    uint64
	gid    uint64

	blockSize int
	blocks    int64
	tree      *blockTree
	used      uint64
	spill     *ondisk.BlockPtr
}

// newFile numbers an object for a file with its attributes, and puts its spill
// block, if any, on its way.
func (fs *filesystem) newFile(path string, typ ondisk.ObjectType, a *sa.Attrs) (*object, error) {
	enc, err := sa.Encode(*a, fs.options)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return fs.begin(path, fs.set.newObject(passing, enc.Slots), typ, a, enc), nil
}

func (fs *filesystem) begin(path string, number uint64, typ ondisk.ObjectType, a *sa.Attrs, enc sa.Encoded) *object {
	o := &object{fs: fs, number: number, typ: typ, path: path, attrs: enc, uid: a.UID, gid: a.GID, blockSize: ondisk.SectorSize}
	if len(enc.Spill) > 0 {
		o.putSpill()
	}
	return o
}

func (o *object) putSpill() {
	n := (len(o.attrs.Spill) + ondisk.SectorSize - 1) &^ (ondisk.SectorSize - 1)
	j := o.fs.pipe.job(n)
	clear(j.data[copy(j.data, o.attrs.Spill):])
	j.set, j.path, j.typ, j.fill = o.fs.set, o.path, ondisk.TypeSA, 1
	j.copies, j.method, j.keep = o.fs.set.metaCopies, o.fs.set.metaMethod, true
	j.then = func(ptr ondisk.BlockPtr) error {
		o.spill = &ptr
		o.used += ptr.ASize()
		return nil
	}
	o.fs.pipe.put(j)
}

// plan settles the shape of the object's content.
func (o *object) plan(blockSize int, blocks int64) {
	o.blockSize, o.blocks = blockSize, blocks
	o.tree = newBlockTree(o.fs.pipe, o.fs.set, o.typ, o.fs.set.metaCopies, treeLevels(blocks, 1))
	if o.typ == ondisk.TypePlainFile && o.fs.settings.mostMetadata {
		o.tree.lowCopies = o.fs.settings.copies
	}
}

// put sends the next block of content; last ends the object.
func (o *object) put(j *job, last bool) {
	j.set, j.path, j.typ, j.fill = o.fs.set, o.path, o.typ, 1
	j.then = func(ptr ondisk.BlockPtr) error {
		o.used += ptr.ASize()
		if err := o.tree.add(0, &ptr); err != nil || !last {
			return err
		}
		return o.finish()
	}
	o.fs.pipe.put(j)
}

// finish makes the dnode; on the committer.
func (o *object) finish() error {
	d := ondisk.Dnode{
		Type: o.typ, IndirectShift: ondisk.IndirectShift, Levels: 1, BonusType: ondisk.TypeSA, BlockSize: o.blockSize,
		Slots: o.attrs.Slots, Bonus: o.attrs.Bonus, Spill: o.spill, Flags: o.fs.set.accounting.dnodeFlags(),
	}
	if o.tree != nil {
		ptrs, err := o.tree.finish()
		if err != nil {
			return err
		}
		d.Pointers, d.Levels, d.MaxBlock = ptrs, uint8(o.tree.levels), uint64(o.blocks-1)
		o.used += o.tree.used
	} else {
		d.Pointers = make([]ondisk.BlockPtr, 1)
	}
	d.Used = o.used
	o.fs.set.accounting.add(o.uid, o.gid, o.used)
	return o.fs.set.setDnode(o.number, &d)
}

// end finishes an object without content.
func (o *object) end() { o.fs.pipe.do(o.finish) }

// putZAP writes an object that is a ZAP: a directory or one of the tables.
func (o *object) putZAP(entries []zap.Entry) error {
	layout, err := zap.Plan(entries, zap.Options{Salt: o.fs.salt()})
	if err != nil {
		return fmt.Errorf("dataset %q: directory %q: %w", o.fs.name, o.path, err)
	}
	o.plan(layout.BlockSize(), int64(layout.Blocks()))
	for i := range layout.Blocks() {
		j := o.fs.pipe.job(layout.BlockSize())
		layout.Block(i, j.data)
		j.method, j.copies, j.embed, j.keep = o.fs.set.metaMethod, o.fs.set.metaCopies, true, true
		o.put(j, i == layout.Blocks()-1)
	}
	return nil
}

// putContent reads a file's body into blocks. A body that ends early or goes
// on is an error.
func (o *object) putContent(body io.Reader, size int64) error {
	record := int64(o.fs.settings.recordSize)
	if size == 0 {
		o.end()
		return wantEnd(body, o.path, size)
	}
	blockSize := min(record, (size+ondisk.SectorSize-1)&^(ondisk.SectorSize-1))
	o.plan(int(blockSize), (size+blockSize-1)/blockSize)
	in := newBlockReader(body)
	for at := int64(0); at < size; {
		if err := o.fs.pipe.failed(); err != nil {
			return err
		}
		holes, err := in.holes(blockSize, size-at)
		if err != nil {
			return bodyError(o.path, at, size, err)
		}
		if holes > 0 {
			at += holes * blockSize
			o.putHoles(holes, at >= size)
			continue
		}
		j := o.fs.pipe.job(int(blockSize))
		n := min(blockSize, size-at)
		if got, err := in.fill(j.data[:n]); err != nil {
			return bodyError(o.path, at+int64(got), size, err)
		}
		clear(j.data[n:])
		j.method, j.copies, j.embed = o.fs.settings.method, o.fs.settings.copies, true
		at += n
		o.put(j, at >= size)
	}
	return wantEnd(body, o.path, size)
}

// putHoles passes over blocks that are holes.
func (o *object) putHoles(n int64, last bool) {
	o.fs.pipe.do(func() error {
		if err := o.tree.addHoles(n); err != nil {
			return err
		}
		if last {
			return o.finish()
		}
		return nil
	})
}

func bodyError(path string, at, size int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("writing %q: its body ends after %d bytes: its size is %d", path, at, size)
	}
	return fmt.Errorf("reading the content of %q at %d: %w", path, at, err)
}

func wantEnd(body io.Reader, path string, size int64) error {
	if body == nil {
		return nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(body, one[:]); {
	case n > 0:
		return fmt.Errorf("writing %q: its body goes on after %d bytes, its size", path, size)
	case err != io.EOF:
		return fmt.Errorf("reading the content of %q at %d: %w", path, size, err)
	}
	return nil
}
