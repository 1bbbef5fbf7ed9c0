package pipeline

import (
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/scan"
)

// What the scan could not read stops a build as a finding does; what it does
// not look into by design is a note.
func TestScannedWantsAllOfTheDisk(t *testing.T) {
	note := scan.Note{Location: scan.Location{Volume: "partition 2 (ext4)", Path: "/etc"}, Text: "not looked at: bad checksum"}
	if err := scanned(&scan.Report{Notes: []scan.Note{note}}); err != nil {
		t.Errorf("a note: %v", err)
	}
	note.Unread = true
	err := scanned(&scan.Report{Notes: []scan.Note{note}})
	if err == nil || !strings.Contains(err.Error(), "partition 2 (ext4): /etc: not looked at: bad checksum") {
		t.Errorf("unread: %v", err)
	}
}
