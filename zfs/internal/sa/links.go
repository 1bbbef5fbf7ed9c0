package sa

import (
	"encoding/binary"
	"fmt"
)

// linksOffset is where LINKS stands behind the header: all of Layouts that
// describe a file begin with the same attributes.
const linksOffset = 7*8 + 4*16

// SetLinks changes the link count in a bonus buffer that Encode made.
func SetLinks(bonus []byte, links uint64) error {
	if len(bonus) < headerSize || binary.LittleEndian.Uint32(bonus) != magic {
		return fmt.Errorf("setting a link count: the buffer of %d bytes holds no system attributes", len(bonus))
	}
	at := int(binary.LittleEndian.Uint16(bonus[4:])>>10)*8 + linksOffset
	if at+8 > len(bonus) {
		return fmt.Errorf("setting a link count: it would lie at %d of %d bytes", at, len(bonus))
	}
	binary.LittleEndian.PutUint64(bonus[at:], links)
	return nil
}
