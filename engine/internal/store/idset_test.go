package store

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"
)

// An idSet has all that was added, few others, and is as large as it says.
func TestIDSet(t *testing.T) {
	if size := reflect.TypeFor[idSet]().Size(); size != idSetBytes {
		t.Fatalf("an idSet has %d bytes, not %d", size, idSetBytes)
	}
	for _, c := range []struct{ n, mostBytes, mostWrong int }{
		{10, 64, 1},
		{1_000, 6 << 10, 5},
		{maxTags, 7 * maxTags, 15},
		{maxTags + 1, 8 * maxTags, 15},
		{1_000_000, 6_700_000, 600}, // 466 are to be expected
	} {
		var s idSet
		rng := rand.New(rand.NewPCG(1, uint64(c.n)))
		tags := make([]uint32, c.n)
		bytes := 0
		for i := range tags {
			tags[i] = rng.Uint32() | 1
			bytes += s.add(tags[i])
		}
		for _, tag := range tags {
			if !s.has(tag) {
				t.Fatalf("%d tags: %x was added and is not there", c.n, tag)
			}
		}
		wrong := 0
		for range 1_000_000 {
			if s.has(rng.Uint32() | 1) {
				wrong++
			}
		}
		if bytes != sizeOf(&s) {
			t.Errorf("%d tags: %d bytes, and it says %d", c.n, sizeOf(&s), bytes)
		}
		if bytes > c.mostBytes || wrong > c.mostWrong {
			t.Errorf("%d tags: %d bytes, %d want; %d wrong of a million, %d want", c.n, bytes, c.mostBytes, wrong, c.mostWrong)
		}
		t.Logf("%d tags: %.2f bytes each, %d wrong of a million", c.n, float64(bytes)/float64(c.n), wrong)
	}
}

// sizeOf is what the set points to, in bytes.
func sizeOf(s *idSet) int {
	bytes := 4*cap(s.tags) + idSetBytes*cap(s.parts)
	for i := range s.parts {
		bytes += sizeOf(&s.parts[i])
	}
	return bytes
}

// A set has what it had when its tables become parts, as deep as there are
// bits.
func TestIDSetDeep(t *testing.T) {
	const n = 1 << 10
	var s idSet
	for depth := range uint32(5) {
		for i := depth; i < n; i += 5 {
			s.add(i<<3 | 1)
			s.add(i<<20 | 1)
		}
		for i := range uint32(n) {
			has := i%5 <= depth
			if s.has(i<<3|1) != has || s.has(i<<20|1) != has || s.has(i<<3|7) {
				t.Fatalf("depth %d: %x: %v, want %v", depth, i, s.has(i<<3|1), has)
			}
		}
		at, _ := s.table(1)
		at.split()
	}
}

func FuzzIDSet(f *testing.F) {
	f.Add([]byte("0000111122223333"), uint8(0))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255}, uint8(20))
	f.Fuzz(func(t *testing.T, b []byte, shift uint8) {
		var s idSet
		model := map[uint32]bool{}
		add := func(tag uint32) {
			if s.add(tag); !s.has(tag) {
				t.Fatalf("%x was added and is not there", tag)
			}
			model[tag] = true
		}
		for ; len(b) >= 4; b = b[4:] {
			tag := binary.BigEndian.Uint32(b) | 1
			if s.has(tag) != model[tag] {
				t.Fatalf("%x: %v", tag, s.has(tag))
			}
			add(tag)
			for i := range uint32(maxTags / 2) { // enough of them for parts
				add(tag + i*0x9E3779B1<<(1+shift%16))
			}
		}
		for tag := range model {
			if !s.has(tag) {
				t.Fatalf("%x is not there any more", tag)
			}
		}
	})
}
