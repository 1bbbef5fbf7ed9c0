package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/kldload/kldload/internal/run"
)

// wanted is how many ids a root tree needs: 0 to 65534 (nobody) and one more.
const wanted = 65536

// idRange is one line of a uid_map: size ids from inside are outside.
type idRange struct{ inside, outside, size uint32 }

// mapIDs makes the child root of its user namespace: the same ids for root,
// ourselves as root plus the subordinate ids for anyone else.
func mapIDs(ctx context.Context, pid int) error {
	if os.Geteuid() == 0 {
		return mapAsRoot(pid)
	}
	uids, err := userRanges("/etc/subuid", os.Getuid())
	if err != nil {
		return err
	}
	gids, err := userRanges("/etc/subgid", os.Getgid())
	if err != nil {
		return err
	}
	if err := newIDMap(ctx, "newuidmap", pid, uids); err != nil {
		return err
	}
	return newIDMap(ctx, "newgidmap", pid, gids)
}

func mapAsRoot(pid int) error {
	for _, kind := range []string{"uid_map", "gid_map"} {
		size, err := ownIDs("/proc/self/" + kind)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("0 0 %d\n", size)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, kind), []byte(line), 0); err != nil {
			return fmt.Errorf("mapping ids: %w", err)
		}
	}
	return nil
}

// ownIDs tells how many ids from 0 up this process itself has.
func ownIDs(mapFile string) (uint32, error) {
	b, err := os.ReadFile(mapFile)
	if err != nil {
		return 0, err
	}
	var inside, outside, size uint32
	if _, err := fmt.Sscan(string(b), &inside, &outside, &size); err != nil || inside != 0 || size < wanted {
		return 0, fmt.Errorf("mapping ids: %s has no %d ids from 0: %q", mapFile, wanted, strings.TrimSpace(string(b)))
	}
	return size, nil
}

// userRanges maps 0 to the caller and the ids above to its first subordinate
// range that is large enough (subuid(5)).
func userRanges(file string, id int) ([]idRange, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("looking up the current user: %w", err)
	}
	f, err := os.Open(file)
	if err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if r, ok := subRange(s.Text(), me.Username, me.Uid); ok && r.size >= wanted-1 {
				r.size = min(r.size, wanted)
				return []idRange{{0, uint32(id), 1}, r}, nil
			}
		}
	}
	return nil, fmt.Errorf("building as %q without root: no range of %d ids in %s\n"+
		"hint: as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s",
		me.Username, wanted-1, file, me.Username)
}

func subRange(line, name, uid string) (idRange, bool) {
	fields := strings.Split(strings.TrimSpace(line), ":")
	if len(fields) != 3 || fields[0] != name && fields[0] != uid {
		return idRange{}, false
	}
	first, err1 := strconv.ParseUint(fields[1], 10, 32)
	size, err2 := strconv.ParseUint(fields[2], 10, 32)
	return idRange{1, uint32(first), uint32(size)}, err1 == nil && err2 == nil
}

func newIDMap(ctx context.Context, tool string, pid int, ranges []idRange) error {
	args := []string{tool, strconv.Itoa(pid)}
	for _, r := range ranges {
		for _, n := range []uint32{r.inside, r.outside, r.size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	return run.Run(ctx, run.Cmd{Doing: "mapping ids", Args: args})
}
