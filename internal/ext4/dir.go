package ext4

import "cmp"

// Directory blocks: "Linear (Classic) Directories".
const (
	direntHead  = 8
	dirTailSize = 12
	dirTailType = 0xDE
	dirRoom     = blockSize - dirTailSize
	dotsSize    = 24 // "." and ".."
)

// dir is a directory that is being filled; it is written by Close.
type dir struct {
	ino, parent uint32
	path        string
	in          *inode
	subdirs     int
	entries     []dirent
	names       map[string]int32 // index into entries
	replaced    bool             // its metadata came with an entry
}

type dirent struct {
	name string
	ino  uint32
	kind uint8 // as in the mode: S_IFMT >> 12
}

// kind as stored in directory entries, by S_IFMT >> 12.
var direntTypes = [16]uint8{
	modeRegular >> 12: 1, modeDir >> 12: 2, modeChar >> 12: 3, modeBlock >> 12: 4,
	modeFIFO >> 12: 5, modeSocket >> 12: 6, modeSymlink >> 12: 7,
}

func (d *dir) add(name string, ino uint32, kind uint8) {
	if d.names == nil {
		d.names = map[string]int32{}
	}
	d.names[name] = int32(len(d.entries))
	d.entries = append(d.entries, dirent{name, ino, kind})
}

func direntSize(name string) int { return (direntHead + len(name) + 3) &^ 3 }

// dirBlock packs entries into one block.
type dirBlock struct {
	b    []byte
	at   int
	last int // start of the latest entry, or -1
}

func newDirBlock() *dirBlock { return &dirBlock{b: make([]byte, blockSize), last: -1} }

func (k *dirBlock) add(name string, ino uint32, kind uint8) {
	n := direntSize(name)
	e := k.b[k.at : k.at+n]
	le.PutUint32(e[0:], ino)
	le.PutUint16(e[4:], uint16(n))
	e[6], e[7] = uint8(len(name)), direntTypes[kind]
	copy(e[direntHead:], name)
	k.last = k.at
	k.at += n
}

// seal stretches the last entry to the tail and adds that.
func (k *dirBlock) seal(inodeSeed uint32) []byte {
	if k.last < 0 {
		k.last = 0 // an unused entry as large as the block
	}
	le.PutUint16(k.b[k.last+4:], uint16(dirRoom-k.last))
	tail := k.b[dirRoom:]
	le.PutUint16(tail[4:], dirTailSize)
	tail[7] = dirTailType
	le.PutUint32(tail[8:], crc32c(inodeSeed, k.b[:dirRoom]))
	return k.b
}

// dirBlocks gives the content of a directory: one plain block, or a hash tree.
func (w *Writer) dirBlocks(d *dir) ([][]byte, error) {
	seed := inodeSeed(w.seed, d.ino, 0)
	size := dotsSize
	for _, e := range d.entries {
		size += direntSize(e.name)
	}
	if size > dirRoom {
		d.in.flags |= flagIndex
		return w.indexedDir(d, seed)
	}
	k := newDirBlock()
	k.add(".", d.ino, modeDir>>12)
	k.add("..", d.parent, modeDir>>12)
	for _, e := range d.entries {
		k.add(e.name, e.ino, e.kind)
	}
	blocks := [][]byte{k.seal(seed)}
	if d.ino == inoLostFound { // room for e2fsck, which must not allocate
		for range lostFoundBlocks - 1 {
			blocks = append(blocks, newDirBlock().seal(seed))
		}
	}
	return blocks, nil
}

const lostFoundBlocks = 4

// writeDir allocates and writes a directory and completes its inode in memory.
func (w *Writer) writeDir(d *dir) error {
	path := cmp.Or(d.path, ".")
	blocks, err := w.dirBlocks(d)
	if err != nil {
		return err
	}
	var list []extent
	for i := 0; i < len(blocks); {
		start, n := w.alloc.alloc(int64(len(blocks) - i))
		if n == 0 {
			return w.noBlocks(path, int64(len(blocks)-i))
		}
		list = appendExtent(list, uint32(i), start, n)
		for k := range n {
			if err := w.out.write(blocks[i], (start+k)*blockSize); err != nil {
				return err
			}
			i++
		}
	}
	d.in.size = int64(len(blocks)) * blockSize
	d.in.blocks += int64(len(blocks))
	d.in.links = uint32(2 + d.subdirs)
	if d.in.links > maxLinks {
		d.in.links = 1 // dir_nlink: no longer counted
	}
	return w.setExtents(path, d.ino, d.in, list)
}
