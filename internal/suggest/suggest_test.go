package suggest

import "testing"

func TestHint(t *testing.T) {
	names := []string{"qcow2", "vmdk", "vhd", "vhdx"}
	for given, want := range map[string]string{
		"qcow":  `did you mean "qcow2"?`,
		"VMKD":  `did you mean "vmdk"?`,
		"vhdxx": `did you mean "vhdx"?`,
		"iso":   "have qcow2, vhd, vhdx, vmdk",
	} {
		if got := Hint(given, names); got != want {
			t.Errorf("Hint(%q) = %q, want %q", given, got, want)
		}
	}
	if got := Hint("x", nil); got != "" {
		t.Errorf("without names: %q", got)
	}
}

func TestListed(t *testing.T) {
	for want, names := range map[string][]string{"": nil, `"a"`: {"a"}, `"a" or "b"`: {"a", "b"}, `"a", "b" or "c"`: {"a", "b", "c"}} {
		if got := Listed(names); got != want {
			t.Errorf("Listed(%q) = %q, want %q", names, got, want)
		}
	}
}
