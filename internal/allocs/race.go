//go:build race

package allocs

// raceFactor is how many times more the race detector lets code allocate: with
// it a sync.Pool forgets a quarter of what it is given, at random, and over the
// session half of what a call needs comes out of pools.
const raceFactor = 1.6
