//go:build race

package server

// residentMemory is how many bytes of resident memory an idle session may
// cost. The race detector keeps several bytes of its own for each of ours: it
// makes 74 KB of 18.
const residentMemory = 256 << 10
