package block

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"math/rand"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// sample has runs of zeros, text and noise, n bytes of it.
func sample(n int) []byte {
	r := rand.New(rand.NewSource(int64(n)))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(strings.Repeat("zfs pool ", 1+r.Intn(20)))
		b.Write(make([]byte, r.Intn(300)))
		noise := make([]byte, r.Intn(100))
		r.Read(noise)
		b.Write(noise)
	}
	return b.Bytes()[:n]
}

func header(n int, more ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(n)), more...)
}

func packLZ4(t testing.TB, b []byte) []byte {
	out := make([]byte, lz4.CompressBlockBound(len(b)))
	n, err := lz4.CompressBlock(b, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(header(n), out[:n]...)
}

func packZstd(t testing.TB, b []byte) []byte {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	frame := e.EncodeAll(b, nil)[4:]
	return append(header(len(frame), 3, 0, 0x28, 0xa5), frame...)
}

func packGzip(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// packLZJB finds matches the slow way; they must be of 3 to 66 bytes, at most
// 1023 back.
func packLZJB(b []byte) (out []byte) {
	for at := 0; at < len(b); {
		flags := len(out)
		out = append(out, 0)
		for bit := 0; bit < 8 && at < len(b); bit++ {
			best, from := 0, 0
			for back := 1; back <= min(at, 200); back++ {
				n := 0
				for n < 66 && at+n < len(b) && b[at+n] == b[at-back+n] {
					n++
				}
				if n > best {
					best, from = n, back
				}
			}
			if best < 3 {
				out = append(out, b[at])
				at++
				continue
			}
			out[flags] |= 1 << bit
			out = binary.BigEndian.AppendUint16(out, uint16((best-3)<<10|from))
			at += best
		}
	}
	return out
}

func packZLE(b []byte) (out []byte) {
	for at := 0; at < len(b); {
		n := 0
		for n < 192 && at+n < len(b) && b[at+n] == 0 {
			n++
		}
		if n > 0 {
			out = append(out, byte(63+n))
			at += n
			continue
		}
		for n < 64 && at+n < len(b) && b[at+n] != 0 {
			n++
		}
		out = append(append(out, byte(n-1)), b[at:at+n]...)
		at += n
	}
	return out
}

func packed(t testing.TB, b []byte) map[ondisk.Compression][]byte {
	return map[ondisk.Compression][]byte{
		ondisk.CompressOff: b, ondisk.CompressLZ4: packLZ4(t, b), ondisk.CompressZSTD: packZstd(t, b),
		ondisk.CompressGzip1: packGzip(t, b), ondisk.CompressGzip9: packGzip(t, b),
		ondisk.CompressLZJB: packLZJB(b), ondisk.CompressZLE: packZLE(b),
	}
}

func TestDecode(t *testing.T) {
	for _, n := range []int{1, 512, 4096, 40960} {
		want := sample(n)
		for c, src := range packed(t, want) {
			if c != ondisk.CompressOff { // a stored block has padding
				src = append(src, make([]byte, 100)...)
			}
			kept := bytes.Clone(src)
			got := make([]byte, n)
			if err := Decode(got, src, c); err != nil {
				t.Errorf("%s, %d bytes: %v", c, n, err)
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes: other bytes", c, n)
			}
			if !bytes.Equal(src, kept) {
				t.Errorf("%s, %d bytes: the source was changed", c, n)
			}
		}
	}
}

func TestDecodeEmpty(t *testing.T) {
	got := sample(512)
	if err := Decode(got, nil, ondisk.CompressEmpty); err != nil || !bytes.Equal(got, make([]byte, 512)) {
		t.Errorf("Decode gives %x, %v", got[:16], err)
	}
}

// Every cut, and every other size than that of the block, is an error, except
// for LZJB, which stops when it has enough.
func TestDecodeDamage(t *testing.T) {
	want := sample(3000)
	for c, src := range packed(t, want) {
		for n := range src {
			if err := Decode(make([]byte, len(want)), src[:n], c); err == nil {
				t.Errorf("%s cut to %d of %d bytes: no error", c, n, len(src))
				break
			}
		}
		for _, n := range []int{2999, 3001} {
			if err := Decode(make([]byte, n), src, c); err == nil && !(c == ondisk.CompressLZJB && n < 3000) {
				t.Errorf("%s into %d bytes: no error", c, n)
			}
		}
	}
	for _, c := range []ondisk.Compression{0, 1, 17, 127} {
		if err := Decode(make([]byte, 512), make([]byte, 512), c); err == nil {
			t.Errorf("%s: no error", c)
		}
	}
}

// The words were computed by other means (Python's hashlib and struct).
func TestSums(t *testing.T) {
	b := []byte("0123456789abcdef0123456789abcdef")
	for c, want := range map[ondisk.Checksum][4]uint64{
		ondisk.ChecksumFletcher2: {0x6e6c6a6866646260, 0xcccac8c6c4c27270, 0xa5a29f9c99969390, 0x33302d2a2723aba8},
		ondisk.ChecksumFletcher4: {0x2665e07fe, 0xa07e2865a, 0x2027ab8af8, 0x55ba65f664},
		ondisk.ChecksumSHA256:    {0x3eb1bd439947eb76, 0x2998e566ccc2e099, 0xc791118b2f40579c, 0xc4f7da2b5061b7f9},
		ondisk.ChecksumSHA512:    {0xe1343ba271edfb14, 0xd8fe02494413f01f, 0x9fe19f757c0e8eb2, 0x0a67142709c1f56a},
	} {
		if got, err := Sum(b, c); err != nil || got != want {
			t.Errorf("%s is %x, %v, wanted %x", c, got, err, want)
		}
	}
}

func TestVerify(t *testing.T) {
	b := sample(4096)
	for _, c := range []ondisk.Checksum{ondisk.ChecksumFletcher2, ondisk.ChecksumFletcher4, ondisk.ChecksumSHA256, ondisk.ChecksumSHA512} {
		sum, err := Sum(b, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(b, c, sum); err != nil {
			t.Error(err)
		}
		sum[2]++
		var wrong *SumError
		if err := Verify(b, c, sum); !errors.As(err, &wrong) {
			t.Errorf("%s: a wrong sum gives %v", c, err)
		}
	}
	for _, c := range []ondisk.Checksum{ondisk.ChecksumSkein, ondisk.ChecksumEdonR, ondisk.ChecksumBlake3, 200} {
		var unknown *UnsupportedSumError
		if err := Verify(b, c, [4]uint64{}); !errors.As(err, &unknown) || !strings.Contains(err.Error(), c.String()) {
			t.Errorf("%s: %v", c, err)
		}
	}
	if err := Verify(b, ondisk.ChecksumOff, [4]uint64{1}); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for c, src := range packed(f, sample(600)) {
		f.Add(src, uint8(c), uint16(600))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(15), uint16(512))
	f.Fuzz(func(t *testing.T, src []byte, c uint8, size uint16) {
		dst := make([]byte, size)
		_ = Decode(dst, src, ondisk.Compression(c))
	})
}
