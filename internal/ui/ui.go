// Package ui is how a command speaks: stages with their times, one line each,
// that move on a terminal and are plain when piped; events with JSON; the
// result alone when quiet. It knows nothing of what the stages do.
//
// Sizes are binary units, times wall times. Secrets registered with Mask are
// replaced in everything that is printed.
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Mode is how a UI prints.
type Mode int

const (
	// Auto is Terminal on a terminal and Plain otherwise.
	Auto Mode = iota
	Terminal
	Plain
	JSON
	Quiet
)

// UI prints to one writer. It is safe for concurrent use.
type UI struct {
	mu    sync.Mutex
	out   io.Writer
	mode  Mode
	width int
	masks []string
	live  string // the moving line now on the terminal
	now   func() time.Time
}

// New returns a UI that prints to out.
func New(out io.Writer, mode Mode) *UI {
	u := &UI{out: out, mode: mode, width: 80, now: time.Now}
	if mode == Auto {
		u.mode = Plain
		if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			u.mode = Terminal
			if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
				u.width = w
			}
		}
	}
	return u
}

// Mode tells how u prints, Auto resolved.
func (u *UI) Mode() Mode { return u.mode }

// Mask hides each secret in everything printed from now on.
func (u *UI) Mask(secrets ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range secrets {
		if s != "" {
			u.masks = append(u.masks, s)
		}
	}
}

// Masked is s with every secret hidden, for text that others print.
func (u *UI) Masked(s string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mask(s)
}

// Event is one line of --json output. Times are RFC 3339 in UTC, sizes bytes,
// durations seconds.
type Event struct {
	Time    string  `json:"time"`
	Event   string  `json:"event"` // stage-start, progress, stage-done, stage-failed, log, note, result
	Stage   string  `json:"stage,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Status  string  `json:"status,omitempty"` // stage-done: "" or cached
	Done    int64   `json:"done,omitempty"`
	Total   int64   `json:"total,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Data    any     `json:"data,omitempty"` // result
}

func (u *UI) emit(e Event) {
	e.Time = u.now().UTC().Format(time.RFC3339Nano)
	e.Detail = u.mask(e.Detail)
	if raw, err := json.Marshal(e.Data); e.Data != nil && err == nil {
		e.Data = json.RawMessage(u.maskJSON(raw))
	}
	b, err := json.Marshal(e)
	if err != nil {
		b, _ = json.Marshal(Event{Time: e.Time, Event: e.Event, Detail: err.Error()})
	}
	fmt.Fprintln(u.out, string(b))
}

// maskJSON hides secrets inside encoded strings. A secret so short that it
// could be JSON's own punctuation is none that a result holds.
func (u *UI) maskJSON(raw []byte) string {
	s := string(raw)
	for _, m := range u.masks {
		if enc, err := json.Marshal(m); err == nil && len(m) > 3 {
			s = strings.ReplaceAll(s, string(enc[1:len(enc)-1]), "<sensitive>")
		}
	}
	return s
}

func (u *UI) mask(s string) string {
	for _, m := range u.masks {
		s = strings.ReplaceAll(s, m, "<sensitive>")
	}
	return s
}

// line prints a finished line above the moving one.
func (u *UI) line(s string) {
	u.clear()
	fmt.Fprintln(u.out, u.mask(s))
	u.redraw()
}

func (u *UI) clear() {
	if u.live != "" {
		fmt.Fprint(u.out, "\r\x1b[K")
	}
}

func (u *UI) redraw() {
	if u.live != "" {
		fmt.Fprint(u.out, u.mask(u.live))
	}
}

func (u *UI) setLive(s string) {
	if r := []rune(s); len(r) >= u.width {
		s = string(r[:u.width-1])
	}
	u.clear()
	u.live = s
	u.redraw()
}

// Print prints one line for a person; nothing when quiet, an event with JSON.
func (u *UI) Print(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	msg := fmt.Sprintf(format, args...)
	switch u.mode {
	case Quiet:
	case JSON:
		u.emit(Event{Event: "note", Detail: msg})
	default:
		u.line(msg)
	}
}

// Result ends a command: text for a person, data for a program, brief when
// quiet (a path or a name alone).
func (u *UI) Result(text, brief string, data any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch u.mode {
	case JSON:
		u.emit(Event{Event: "result", Detail: brief, Data: data})
	case Quiet:
		u.line(brief)
	default:
		u.line(text)
	}
}
