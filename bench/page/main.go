// Command page puts the tables of a run into a page, between its marks, and
// draws the plot beside it:
//
//	cd bench && go run ./page ../docs/performance.json ../docs/performance.md
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/lockkeeper/lockkeeper/bench"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: page RESULTS.json PAGE.md")
		os.Exit(2)
	}
	if err := fill(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fill(results, page string) error {
	r, err := bench.Read(results)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(page) //nolint:gosec // who runs it names it
	if err != nil {
		return err
	}
	filled, err := r.Fill(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	for path, text := range map[string]string{page: filled, strings.TrimSuffix(page, ".md") + ".svg": r.SVG()} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	return nil
}
