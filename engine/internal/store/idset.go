package store

import "encoding/binary"

// idSet is a set of ids that is known by 31 bits of their hashes. It has every
// id that was added; with n ids it takes one in 2^31/n others for one of them.
// The zero value is empty. It is a hash table that becomes a tree of hash
// tables as it grows, so that no add has more than maxTags to move.
type idSet struct {
	tags  []uint32 // a hash table with linear probing; 0 is free, and never a tag
	n     int      // of the tags
	parts []idSet  // instead of tags: by the first bits of the tags, without these
}

const (
	partBits = 6
	minTags  = 16      // room in the smallest table
	maxTags  = 8 << 10 // in one table; with more it becomes parts
	// A part four levels down has 8 bits left, and so never as many.

	idSetBytes = 56 // of an idSet without what it points to
)

// tagOf is what stands for an id. Its last bit is set, so that it is not 0
// however many of its first bits are taken off.
func tagOf(hash []byte) uint32 { return binary.BigEndian.Uint32(hash) | 1 }

// home is where a tag belongs: in a larger table they are in the same order,
// so growing goes through both from front to end.
func home(tag uint32, size int) int { return int(uint64(tag) * uint64(size) >> 32) }

// table returns the table for a tag, and the tag in it.
func (s *idSet) table(tag uint32) (*idSet, uint32) {
	for s.parts != nil {
		s, tag = &s.parts[tag>>(32-partBits)], tag<<partBits
	}
	return s, tag
}

// find returns where a tag is, or the free place for it.
func (s *idSet) find(tag uint32) (at int, found bool) {
	for at = home(tag, len(s.tags)); s.tags[at] != 0; {
		if s.tags[at] == tag {
			return at, true
		}
		if at++; at == len(s.tags) {
			at = 0
		}
	}
	return at, false
}

// has reports whether the tag may have been added.
func (s *idSet) has(tag uint32) bool {
	s, tag = s.table(tag)
	if s.n == 0 {
		return false
	}
	_, found := s.find(tag)
	return found
}

// add puts a tag into the set and returns by how many bytes the set has grown.
func (s *idSet) add(tag uint32) (grown int) {
	s, tag = s.table(tag)
	if s.n == maxTags {
		grown = s.split()
		return grown + s.add(tag)
	}
	if (s.n+1)*4 > len(s.tags)*3 {
		grown = s.resize(len(s.tags) + len(s.tags)/4)
	}
	if at, found := s.find(tag); !found {
		s.tags[at] = tag
		s.n++
	}
	return grown
}

// resize gives the set a table for size tags at least.
func (s *idSet) resize(size int) (grown int) {
	old := s.tags
	s.tags = append([]uint32(nil), make([]uint32, max(size, minTags))...)
	s.tags = s.tags[:cap(s.tags)] // all that was allocated for it
	clear(s.tags)
	for _, tag := range old {
		if tag != 0 {
			at, _ := s.find(tag)
			s.tags[at] = tag
		}
	}
	return 4 * (len(s.tags) - len(old))
}

// split makes parts of the table.
func (s *idSet) split() (grown int) {
	old := s.tags
	s.tags, s.n = nil, 0
	s.parts = make([]idSet, 1<<partBits)
	grown = len(s.parts)*idSetBytes - 4*len(old)
	for i := range s.parts {
		grown += s.parts[i].resize(len(old) >> partBits)
	}
	for _, tag := range old {
		if tag != 0 {
			grown += s.add(tag)
		}
	}
	return grown
}
