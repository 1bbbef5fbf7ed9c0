package zfs

import (
	"errors"
	"fmt"
)

// checkLabels looks at the four labels and at all slots of their rings.
func (c *checker) checkLabels() {
	for _, l := range c.p.labels {
		if l.err != nil {
			c.problem(Problem{What: "bad label", Offset: l.offset, Err: l.err})
		} else {
			c.report.Labels++
			if !l.sameConfig(c.p.label) {
				c.problem(Problem{What: "labels differ", Offset: l.offset,
					Err: fmt.Errorf("label %d has another configuration than label %d", l.index, c.p.label.index)})
			}
		}
		for _, s := range l.slots(c.p.vdev.ashift, c.p.dev.lax) {
			if s.err != nil {
				c.problem(Problem{What: "bad uberblock", Offset: s.offset, Err: fmt.Errorf("label %d slot %d: %w", l.index, s.index, s.err)})
			} else if s.uber != nil {
				c.report.Uberblocks++
			}
		}
	}
	if sum := c.p.GUID() + c.p.vdev.guidSum; c.p.uber.GUIDSum != sum {
		c.problem(Problem{What: "bad uberblock", Offset: -1,
			Err: fmt.Errorf("the sum of GUIDs is %d, of those in the configuration %d", c.p.uber.GUIDSum, sum)})
	}
	if state, _ := c.p.label.config.Uint64("state"); state == stateDestroyed {
		c.problem(Problem{What: "destroyed pool", Offset: c.p.label.offset, Err: errors.New("the label says that the pool was destroyed")})
	}
}

const stateDestroyed = 2 // POOL_STATE_DESTROYED
