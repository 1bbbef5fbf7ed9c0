package scan

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
)

// Bounds of a pack: of one object, and of all that are kept because others are
// written as differences to them.
const (
	maxObject   = 16 << 20
	maxPackKept = 64 << 20
)

// isLooseObject knows a file below .git/objects: zlib (RFC 1950) around
// "blob 12\0…".
func isLooseObject(head []byte) bool {
	if len(head) < 16 || head[0] != 0x78 || (int(head[0])<<8|int(head[1]))%31 != 0 {
		return false
	}
	z, err := zlib.NewReader(bytes.NewReader(head))
	if err != nil {
		return false
	}
	var b [7]byte
	_, _ = io.ReadFull(z, b[:])
	for _, kind := range []string{"blob ", "tree ", "commit ", "tag "} {
		if bytes.HasPrefix(b[:], []byte(kind)) {
			return true
		}
	}
	return false
}

// pack reads a pack file (git's gitformat-pack(5)), version 2.
type pack struct {
	u    *unit
	in   *counting
	kept map[int64][]byte // by offset
	size int
}

// counting is a reader that knows where it is; zlib reads it byte by byte, and
// not beyond its end.
type counting struct {
	*bufio.Reader
	at int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.at += int64(n)
	return n, err
}

func (c *counting) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.at++
	}
	return b, err
}

func walkPack(u *unit, r io.Reader) error {
	p := &pack{u: u, in: &counting{Reader: bufio.NewReader(r)}, kept: map[int64][]byte{}}
	var h [12]byte
	if _, err := io.ReadFull(p.in, h[:]); err != nil {
		return err
	}
	for range binary.BigEndian.Uint32(h[8:]) {
		if err := p.object(); err != nil {
			return err
		}
	}
	return nil
}

// Types of objects in a pack.
const (
	packOffset    = 6
	packReference = 7
)

func (p *pack) object() error {
	start := p.in.at
	c, err := p.in.ReadByte()
	if err != nil {
		return err
	}
	kind := c >> 4 & 7
	for c&0x80 != 0 {
		if c, err = p.in.ReadByte(); err != nil {
			return err
		}
	}
	var base []byte
	switch kind {
	case packOffset:
		back, err := p.offset()
		if err != nil {
			return err
		}
		base = p.kept[start-back]
	case packReference:
		var id [20]byte
		if _, err := io.ReadFull(p.in, id[:]); err != nil {
			return err
		}
	}
	b, err := p.inflate()
	if err != nil {
		return err
	}
	if kind >= packOffset {
		b = applyDelta(base, b)
	}
	if p.size+len(b) <= maxPackKept {
		p.kept[start] = b
		p.size += len(b)
	}
	return p.u.member(fmt.Sprintf("git object at %d", start), "", bytes.NewReader(b))
}

// offset is the distance to the base of a difference.
func (p *pack) offset() (int64, error) {
	c, err := p.in.ReadByte()
	n := int64(c & 0x7f)
	for err == nil && c&0x80 != 0 && n < 1<<40 {
		c, err = p.in.ReadByte()
		n = (n+1)<<7 | int64(c&0x7f)
	}
	return n, err
}

func (p *pack) inflate() ([]byte, error) {
	z, err := zlib.NewReader(p.in)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(&expanding{z, p.u}, maxObject))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, &expanding{z, p.u}); err != nil { // to its end: the next object is there
		return nil, err
	}
	return b, nil
}

// applyDelta gives the object that a difference makes of base. Without the
// base, only what the difference itself holds.
func applyDelta(base, delta []byte) []byte {
	rest, err := skipSizes(delta)
	if err != nil {
		return delta
	}
	var out []byte
	for len(rest) > 0 && len(out) < maxObject {
		op := rest[0]
		rest = rest[1:]
		if op&0x80 == 0 {
			n := min(int(op), len(rest))
			out, rest = append(out, rest[:n]...), rest[n:]
			continue
		}
		var at, n int
		for i := range 7 {
			if op>>i&1 == 0 {
				continue
			}
			if len(rest) == 0 {
				return out
			}
			if i < 4 {
				at |= int(rest[0]) << (8 * i)
			} else {
				n |= int(rest[0]) << (8 * (i - 4))
			}
			rest = rest[1:]
		}
		if n == 0 {
			n = 0x10000
		}
		if at <= len(base) {
			out = append(out, base[at:min(len(base), at+n)]...)
		}
	}
	return out
}

func skipSizes(delta []byte) ([]byte, error) {
	for range 2 {
		i := 0
		for i < len(delta) && delta[i]&0x80 != 0 {
			i++
		}
		if i >= len(delta) {
			return nil, errors.New("cut off")
		}
		delta = delta[i+1:]
	}
	return delta, nil
}
