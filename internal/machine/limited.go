package machine

import "sync"

// limited keeps the first max bytes written to it. SSH writes both streams
// of a command from goroutines of their own.
type limited struct {
	mu  sync.Mutex
	max int
	buf []byte
}

func (l *limited) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b[:min(len(b), l.max-len(l.buf))]...)
	return len(b), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
