//go:build !race

package allocs

const raceFactor = 1
