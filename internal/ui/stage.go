package ui

import (
	"fmt"
	"time"
)

// repaint is the least time between two paintings of a moving line, and
// report the same between two progress events.
const (
	repaint = 100 * time.Millisecond
	report  = time.Second
)

// Stage is one step of a command that takes time. End it with exactly one of
// Done, Cached and Fail.
type Stage struct {
	u       *UI
	name    string
	start   time.Time
	painted time.Time
	note    string
	elapsed time.Duration
}

// Stage starts a step called name (one word).
func (u *UI) Stage(name string) *Stage {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &Stage{u: u, name: name, start: u.now()}
	switch u.mode {
	case Terminal:
		u.setLive(fmt.Sprintf("  %-10s …", name))
	case JSON:
		u.emit(Event{Event: "stage-start", Stage: name})
	}
	return s
}

// Progress tells how far the stage is: done of total in bytes (total 0: not
// known) and what it does right now.
func (s *Stage) Progress(done, total int64, note string) {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	now := s.u.now()
	every := repaint
	if s.u.mode == JSON {
		every = report
	}
	if now.Sub(s.painted) < every {
		return
	}
	s.painted, s.note = now, note
	switch s.u.mode {
	case Terminal:
		s.u.setLive(fmt.Sprintf("  %-10s %s", s.name, progressText(done, total, now.Sub(s.start), note)))
	case JSON:
		s.u.emit(Event{Event: "progress", Stage: s.name, Done: done, Total: total, Detail: note})
	}
}

func progressText(done, total int64, spent time.Duration, note string) string {
	text := note
	if done > 0 {
		rate := float64(done) / max(spent.Seconds(), 0.001)
		text = fmt.Sprintf("%s  %s/s", Bytes(done), Bytes(int64(rate)))
		if total > 0 {
			left := time.Duration(float64(total-done) / rate * float64(time.Second))
			text = fmt.Sprintf("%3d%%  %s of %s  %s/s  ETA %s", done*100/total,
				Bytes(done), Bytes(total), Bytes(int64(rate)), Seconds(left))
		}
		if note != "" {
			text += "  " + note
		}
	}
	return fmt.Sprintf("%s  %s", text, Seconds(spent))
}

// Log prints one line of what the stage's child says.
func (s *Stage) Log(line string) {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	switch s.u.mode {
	case Quiet:
	case JSON:
		s.u.emit(Event{Event: "log", Stage: s.name, Detail: line})
	default:
		s.u.line("    | " + line)
	}
}

// Done ends the stage well and says what came of it.
func (s *Stage) Done(detail string) time.Duration { return s.end("stage-done", "", detail) }

// Cached ends the stage well without work done.
func (s *Stage) Cached(detail string) time.Duration { return s.end("stage-done", "cached", detail) }

// Fail ends the stage badly; the error itself is the command's to print.
func (s *Stage) Fail() time.Duration { return s.end("stage-failed", "FAILED", "") }

func (s *Stage) end(event, status, detail string) time.Duration {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	s.elapsed = s.u.now().Sub(s.start)
	switch s.u.mode {
	case Quiet:
	case JSON:
		s.u.emit(Event{Event: event, Stage: s.name, Status: status, Detail: detail, Seconds: s.elapsed.Seconds()})
	default:
		s.u.clear()
		s.u.live = ""
		pad := max(0, 62-len([]rune(detail)))
		fmt.Fprintln(s.u.out, s.u.mask(fmt.Sprintf("  %-10s %s%*s %8s", s.name, detail, pad, status, Seconds(s.elapsed))))
	}
	return s.elapsed
}

// Seconds prints a wall time: "0.8s", "2m05s".
func Seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
}
