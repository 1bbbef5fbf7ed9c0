package zfs

import (
	"io"
	"sync"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// birthTxg is the transaction group that all blocks are written in.
const birthTxg = 4

// maxCopies is how many places a block pointer has.
const maxCopies = 3

// logical is a block to be stored.
type logical struct {
	data   []byte // a multiple of 512 bytes
	typ    ondisk.ObjectType
	level  int
	fill   uint64
	copies int
	method block.Method
	// embed allows the block to lie in its pointer.
	embed bool
	// keep stores a block of zeros too.
	keep bool
}

// stored is a block's stored form, before it has a place.
type stored struct {
	ptr         ondisk.BlockPtr // complete when done
	done        bool            // a hole, or embedded
	data        []byte          // whole sectors
	compression ondisk.Compression
	sum         [4]uint64
}

// encoder makes stored forms; each worker has one.
type encoder struct{ block.Encoder }

// encode compresses and sums a block. The result shares l.data or buf, which
// grows as needed.
func (e *encoder) encode(l *logical, buf *[]byte) (s stored, err error) {
	if !l.keep && allZero(l.data) {
		return stored{done: true}, nil
	}
	packed, err := e.Compress(*buf, l.data, l.method)
	if err != nil {
		return s, err
	}
	if packed != nil {
		*buf = packed[:cap(packed)]
		if l.embed && len(packed) <= ondisk.EmbeddedMax {
			s.ptr = ondisk.NewEmbedded(packed, len(l.data), l.method.Compression, l.typ, l.level, birthTxg)
			s.done = true
			return s, nil
		}
	}
	s.data, s.compression = l.data, ondisk.CompressOff
	if n := (len(packed) + sector - 1) &^ (sector - 1); packed != nil && n < len(l.data) {
		s.data, s.compression = padTo(packed, n), l.method.Compression
	}
	s.sum = block.Fletcher4(s.data)
	return s, nil
}

// padTo lengthens b to n bytes with zeros, in place where there is room.
func padTo(b []byte, n int) []byte {
	if cap(b) < n {
		return append(b, make([]byte, n-len(b))...)
	}
	at := len(b)
	b = b[:n]
	clear(b[at:])
	return b
}

func allZero(b []byte) bool {
	for len(b) >= 64 {
		if le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:])|
			le.Uint64(b[32:])|le.Uint64(b[40:])|le.Uint64(b[48:])|le.Uint64(b[56:]) != 0 {
			return false
		}
		b = b[64:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// job is a block on its way, or, without data, something to do when all
// before it have their place.
type job struct {
	logical
	set    *objset // that the block is counted in
	path   string  // for errors
	then   func(ondisk.BlockPtr) error
	out    stored
	err    error
	buf    []byte // backs data
	packed []byte // backs out.data
	ready  chan struct{}
	// signal, when set, is closed when the job is done or given up.
	signal chan struct{}
}

// pipe stores blocks: workers compress and sum them in any order, one
// committer gives them their places in the order they came. So the image does
// not depend on the workers.
type pipe struct {
	space *space
	out   *output
	size  int64 // of the image, for errors

	work  chan *job
	queue chan *job
	ended sync.WaitGroup
	free  chan *job // used ones, for their buffers

	mu  sync.Mutex
	err error

	// The committer's, for blocks that are made of others' places.
	own    encoder
	packed []byte
}

// depth is how many blocks each worker may have waiting, and maxWaiting how
// many there may be of all, since each can be a MiB.
const (
	depth      = 16
	maxWaiting = 128
)

func newPipe(w io.WriterAt, s *space, size int64, workers int) *pipe {
	waiting := min(depth*workers, maxWaiting)
	p := &pipe{
		space: s, out: newOutput(w), size: size,
		work: make(chan *job, waiting), queue: make(chan *job, waiting), free: make(chan *job, waiting+workers),
	}
	for range workers {
		p.ended.Go(func() {
			var enc encoder
			for j := range p.work {
				j.out, j.err = enc.encode(&j.logical, &j.packed)
				j.ready <- struct{}{}
			}
		})
	}
	p.ended.Go(p.commit)
	return p
}

// job gives an empty job whose data has n bytes of any content.
func (p *pipe) job(n int) *job {
	var j *job
	select {
	case j = <-p.free:
		*j = job{buf: j.buf, packed: j.packed, ready: j.ready}
	default:
		j = &job{ready: make(chan struct{}, 1)}
	}
	if cap(j.buf) < n {
		j.buf = make([]byte, n)
	}
	j.data = j.buf[:n]
	return j
}

// release keeps a job's buffers for the next.
func (p *pipe) release(j *job) {
	select {
	case p.free <- j:
	default:
	}
}

// put sends a job on its way. Errors come with flush.
func (p *pipe) put(j *job) {
	if len(j.data) > 0 {
		p.work <- j
	}
	p.queue <- j
}

// do calls f behind all blocks put so far.
func (p *pipe) do(f func() error) {
	j := p.job(0)
	j.then = func(ondisk.BlockPtr) error { return f() }
	p.put(j)
}

// commit is the committer.
func (p *pipe) commit() {
	for j := range p.queue {
		p.commitOne(j)
		if j.signal != nil {
			close(j.signal)
		}
		p.release(j)
	}
}

func (p *pipe) commitOne(j *job) {
	if len(j.data) > 0 {
		<-j.ready
	}
	if p.failed() != nil {
		return
	}
	err := j.err
	var ptr ondisk.BlockPtr
	if err == nil && len(j.data) > 0 {
		ptr, err = p.place(j.set, &j.logical, &j.out, j.path)
	}
	if err == nil && j.then != nil {
		err = j.then(ptr)
	}
	if err != nil {
		p.fail(err)
	}
}

// store is put for a block that is made while committing.
func (p *pipe) store(set *objset, l *logical) (ondisk.BlockPtr, error) {
	s, err := p.own.encode(l, &p.packed)
	if err != nil {
		return ondisk.BlockPtr{}, err
	}
	return p.place(set, l, &s, "")
}

// place gives a block its place, writes it and counts it.
func (p *pipe) place(set *objset, l *logical, s *stored, path string) (ondisk.BlockPtr, error) {
	ptr := s.ptr
	if !s.done {
		k := ondisk.Block{
			LSize: len(l.data), PSize: len(s.data), Compression: s.compression, Checksum: ondisk.ChecksumFletcher4,
			Type: l.typ, Level: l.level, Birth: birthTxg, Fill: l.fill, Sum: s.sum,
		}
		n := (len(s.data) + sector - 1) &^ (sector - 1)
		for c := range min(l.copies, maxCopies) {
			at, ok := p.space.alloc(c, uint64(n))
			if !ok {
				return ptr, &NoSpaceError{Path: path, Size: p.size, Usable: int64(p.space.limit)}
			}
			k.DVAs[c] = ondisk.DVA{ASize: uint64(n), Offset: at}
			if err := p.out.write(c, s.data, int64(at)+ondisk.LabelStart); err != nil {
				return ptr, err
			}
		}
		ptr = ondisk.NewBlockPtr(k)
	}
	set.count(&ptr)
	return ptr, nil
}

func (p *pipe) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// flush waits until everything put so far has been done, and is in the image.
func (p *pipe) flush() error {
	j, signal := p.job(0), make(chan struct{})
	j.then, j.signal = func(ondisk.BlockPtr) error { return p.out.flush() }, signal
	p.put(j)
	<-signal
	return p.failed()
}

// close ends the workers.
func (p *pipe) close() {
	close(p.work)
	close(p.queue)
	p.ended.Wait()
}
