//go:build !race

package server

const residentMemory = idleMemory
