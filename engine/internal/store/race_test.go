//go:build race

package store

// thinning has the tests that crash, fail or flip at every place take every
// third one only under the race detector, which makes each ten times as slow
// and looks for something else. Without it they take all.
const thinning = 3
