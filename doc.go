// Package kldload is the module root of the image factory: one binary,
// one pipeline, one direction.
//
//	template + darksite ─► tree ─► provision ─► seal ─► disk ─► formats ─► boot, check
//
// The map of the rooms, floor by floor, is docs/design/architecture.md; imports go
// down, to the rooms that .depguard.json lists for each.
package kldload
