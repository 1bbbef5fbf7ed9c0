package ui

import "testing"

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{"512": 512, "2G": 2 << 30, "2GiB": 2 << 30, "1k": 1 << 10, "3T": 3 << 40, "0": 0} {
		if got, err := ParseBytes(s, 1); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", s, got, err, want)
		}
	}
	if got, err := ParseBytes("2048", 1<<20); err != nil || got != 2<<30 {
		t.Errorf("in MiB: got %d, %v", got, err)
	}
	for _, s := range []string{"", "G", "x", "-1", "1X", "1Gx", "1GG", "1.5G", "9999999T", "B"} {
		if got, err := ParseBytes(s, 1); err == nil {
			t.Errorf("%q: got %d, want an error", s, got)
		}
	}
}
