package run

import (
	"bytes"
	"sync"
)

// maxLine bounds a line that never ends.
const maxLine = 64 << 10

// Lines is an io.WriteCloser that hands each full line (without its end) to
// Func. It is safe for concurrent writers; Close flushes an unfinished line.
type Lines struct {
	Func func(line string)

	mu  sync.Mutex
	buf []byte
}

func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	for {
		i := bytes.IndexAny(l.buf, "\n\r")
		if i < 0 && len(l.buf) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(l.buf) - 1
		}
		if line := string(l.buf[:i]); line != "" {
			l.Func(line)
		}
		l.buf = l.buf[i+1:]
	}
}

// Close hands over what is left.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > 0 {
		l.Func(string(l.buf))
		l.buf = nil
	}
	return nil
}
