package ui

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes prints a size in binary units, three significant digits: "391 MiB".
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1023.5 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if v < 9.995 {
		return fmt.Sprintf("%.2g %ciB", v, units[i])
	}
	return fmt.Sprintf("%.0f %ciB", v, units[i])
}

// ParseBytes reads a size as qemu-img does: K, M, G and T are binary units;
// the longer KiB and so on are too. A bare number counts in units of bare.
func ParseBytes(s string, bare int64) (int64, error) {
	digits := strings.TrimRight(s, "KMGTkmgtiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, strconv.ErrSyntax
	}
	unit := bare
	if suffix := s[len(digits):]; suffix != "" {
		i := strings.Index("KMGT", strings.ToUpper(suffix[:1]))
		if rest := suffix[1:]; i < 0 || (rest != "" && rest != "iB" && rest != "B") {
			return 0, strconv.ErrSyntax
		}
		unit = 1 << (10 * (i + 1))
	}
	if n > (1<<62)/unit {
		return 0, strconv.ErrRange
	}
	return n * unit, nil
}
