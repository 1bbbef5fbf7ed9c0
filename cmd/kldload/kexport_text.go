package main

import (
	"fmt"
	"strings"

	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/ui"
)

// convertText is the result of convert for a person: one line for each image,
// 80 columns wide unless a path is long.
func convertText(r *export.Result, o convertOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %8s  %-13s  %s\n", "FORMAT", "SIZE", "SHA-256", "FILE")
	for _, out := range r.Outputs {
		sum := "-"
		if out.SHA256 != "" {
			sum = out.SHA256[:12] + "…"
		}
		fmt.Fprintf(&b, "%-6s %8s  %-13s  %s\n", out.Format, ui.Bytes(out.Size), sum, outputName(out, o))
	}
	fmt.Fprintf(&b, "%s disk, %s read once, in %.1fs (%s/s)", ui.Bytes(r.Input.VirtualSize), ui.Bytes(r.Read),
		r.Seconds, ui.Bytes(int64(float64(r.Read)/max(r.Seconds, 0.001))))
	return b.String()
}

// convertBrief is a line for each file.
func convertBrief(r *export.Result, o convertOptions) string {
	var names []string
	for _, out := range r.Outputs {
		names = append(names, outputName(out, o))
	}
	return strings.Join(names, "\n")
}

// outputName is where an image went.
func outputName(out export.Output, o convertOptions) string {
	switch {
	case o.output == "-":
		return "standard output"
	case o.output == "" && o.outputDir == "":
		if strings.HasSuffix(o.scpTarget, ":") || strings.HasSuffix(o.scpTarget, "/") {
			return o.scpTarget + out.File
		}
		return o.scpTarget + "/" + out.File
	}
	return out.Path
}
