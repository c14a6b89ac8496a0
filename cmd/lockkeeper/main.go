// Lockkeeper is a server for locks and queues, and the command line for them.
// Run it without arguments for help, or:
//
//	go run ./cmd/lockkeeper serve
package main

import (
	"os"

	"github.com/lockkeeper/lockkeeper/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args[1:], cli.StandardStreams()))
}
