//go:build race

package allocs

// raceFactor is how many times more the race detector lets code allocate: with
// it a sync.Pool forgets a part of what it is given, at random.
const raceFactor = 1.2
