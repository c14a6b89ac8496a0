//go:build !race

package store

const thinning = 1
