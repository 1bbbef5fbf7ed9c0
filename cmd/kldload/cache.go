package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/cache"
	"github.com/kldload/kldload/internal/pipeline"
	"github.com/kldload/kldload/internal/ui"
)

func newCacheCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "cache",
		GroupID: groupKeep,
		Short:   "Show or prune what builds keep to be faster",
		Example: `  kldload cache show
  kldload cache prune --older-than 168h`,
		Args: knownCommand,
		RunE: showHelp,
	}
	c.PersistentFlags().StringVar(&dir, "cache-dir", "", "cache `folder` (default: kldload in the user's cache folder)")
	c.AddCommand(newCacheShowCommand(a, &dir), newCachePruneCommand(a, &dir))
	return c
}

func newCacheShowCommand(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "List the cached trees and the folders of broken builds",
		Example: `  kldload cache show
  kldload cache show --json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error { return runCacheShow(a, *dir) },
	}
}

func runCacheShow(a *app, dir string) error {
	store, err := cache.Open(dir)
	if err != nil {
		return err
	}
	entries, err := store.List()
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []cache.Info{} // a list in JSON, too
	}
	stale, err := store.Stale()
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%-14s %9s  %-10s  %s", store.Dir(), "KEY", "SIZE", "USED", "TREE")
	for _, e := range entries {
		fmt.Fprintf(&text, "\n%-14s %9s  %-10s  %s", e.Key[:12], ui.Bytes(e.Size), age(time.Since(e.Used)), e.Title)
	}
	if len(entries) == 0 {
		text.WriteString("\n(empty)")
	}
	for folder, since := range stale {
		fmt.Fprintf(&text, "\nleft by a broken build %s ago: %s", age(since), folder)
	}
	a.ui.Result(text.String(), store.Dir(), map[string]any{"dir": store.Dir(), "trees": entries, "left": len(stale)})
	return nil
}

// age is a rough time: "3d", "5h", "12m".
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

func newCachePruneCommand(a *app, dir *string) *cobra.Command {
	var olderThan time.Duration
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove cached trees and what broken builds left",
		Long: `Remove the cached trees and what scans of builds remember, not used for --older-than
(0: all), and every folder that a broken or killed build left. Builds that run now are not touched; what is
removed is made again by the next build.`,
		Example: `  kldload cache prune
  kldload cache prune --older-than 168h`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error { return runCachePrune(a, *dir, olderThan) },
	}
	c.Flags().DurationVar(&olderThan, "older-than", 0, "only what was not used for this long, such as 168h")
	return c
}

func runCachePrune(a *app, dir string, olderThan time.Duration) error {
	store, err := cache.Open(dir)
	if err != nil {
		return err
	}
	entries, folders, err := store.Prune(olderThan, pipeline.RemoveTree)
	if err != nil {
		return err
	}
	keys, err := store.PruneKeys(olderThan)
	if err != nil {
		return err
	}
	var freed int64
	for _, e := range entries {
		freed += e.Size
	}
	text := fmt.Sprintf("removed %d trees (%s) and %d folders of broken builds", len(entries), ui.Bytes(freed), len(folders))
	if keys {
		text += ", and what scans remember"
	}
	a.ui.Result(text, text, map[string]any{"trees": len(entries), "bytes": freed, "folders": len(folders), "scans": keys})
	return nil
}
