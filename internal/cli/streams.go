package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// StandardStreams returns those of the process.
func StandardStreams() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// say writes one line to standard error.
func (s *Streams) say(format string, args ...any) {
	fmt.Fprintf(s.Err, "lockkeeper: "+format+"\n", args...)
}

// printJSON writes v as one line to standard output.
func (s *Streams) printJSON(v any) error {
	enc := json.NewEncoder(s.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// isTerminal reports whether a person is likely to watch w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
