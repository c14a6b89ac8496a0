package main

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The pages under docs are tests. A mark stands on a line of its own right
// before each fenced block of them:
//
//	<!-- run -->                            a sh block
//	<!-- prints -->                         a text block
//	<!-- example lock/example_test.go F --> a go block
//	<!-- shown: WHY -->                     any block that is only to be read
//
// The sh blocks of a page are run as one script, as if they were pasted one
// after another into a shell in an empty directory, with lockkeeper in PATH
// and a server running, whose address stands for http://127.0.0.1:7420.
// Each line of a text block that follows has to be a line of what the script
// prints, in the order of the page; … in it stands for anything. A go block
// has to be a part of function F of that file, which the tests of its package
// run. A block without a mark is an error.

// docBlock is one fenced block of a page.
type docBlock struct {
	mark, language, text string
	line                 int
}

// docBlocks returns the fenced blocks of a page.
func docBlocks(t *testing.T, page string) []docBlock {
	t.Helper()
	var blocks []docBlock
	var open *docBlock
	before := ""
	for i, line := range strings.Split(page, "\n") {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case !fence && open != nil:
			open.text += line + "\n"
		case !fence:
			before = line
		case open != nil:
			blocks = append(blocks, *open)
			open, before = nil, ""
		default:
			mark, ok := strings.CutPrefix(before, "<!-- ")
			mark, closed := strings.CutSuffix(mark, " -->")
			if !ok || !closed {
				t.Errorf("line %d: a block without a mark on the line before it", i+1)
			}
			open = &docBlock{mark: mark, language: language, line: i + 1}
		}
	}
	if open != nil {
		t.Errorf("line %d: a block that is not closed", open.line)
	}
	return blocks
}

func TestDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, path := range pages {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var script, prints []string
			for _, b := range docBlocks(t, string(text)) {
				kind, rest, _ := strings.Cut(b.mark, " ")
				switch {
				case kind == "run" && b.language == "sh":
					script = append(script, b.text)
				case kind == "prints" && b.language == "text":
					prints = append(prints, strings.Split(strings.TrimSpace(b.text), "\n")...)
				case kind == "example" && b.language == "go":
					checkExample(t, b, rest)
				case kind == "shown:" && rest != "":
				default:
					t.Errorf("line %d: the mark %q does not go with a block of %q", b.line, b.mark, b.language)
				}
			}
			if len(script) > 0 {
				checkPrints(t, runDoc(t, script), prints)
			}
		})
	}
}

// runDoc runs the sh blocks of a page and returns what they print.
func runDoc(t *testing.T, blocks []string) result {
	t.Helper()
	d := startDaemon(t)
	script := strings.ReplaceAll(strings.Join(blocks, "\n"), "http://127.0.0.1:7420", d.url)
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+d.url, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	r := begin(t, cmd).waitFor(pagePatience)
	if r.status != 0 {
		t.Fatalf("status %d\n%s%s", r.status, r.out, r.err)
	}
	return r
}

// checkPrints looks for each of the lines, in order, in what was printed.
func checkPrints(t *testing.T, r result, wants []string) {
	t.Helper()
	left := strings.Split(r.out, "\n")
	for _, want := range wants {
		at := 0
		for at < len(left) && !printsAs(left[at], want) {
			at++
		}
		if at == len(left) {
			t.Fatalf("no line %q, or not in its place, in what the page prints:\n%s\n%s", want, r.out, r.err)
		}
		left = left[at+1:]
	}
}

// printsAs reports whether a line is what was wanted, in which … is anything.
// Runs of spaces count as one.
func printsAs(line, want string) bool {
	line = strings.Join(strings.Fields(line), " ")
	parts := strings.Split(strings.Join(strings.Fields(want), " "), "…")
	for i, part := range parts {
		at := strings.Index(line, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		if i == len(parts)-1 {
			return strings.HasSuffix(line, part)
		}
		line = line[at+len(part):]
	}
	return true
}

// checkExample looks for a block in the function that its mark names.
func checkExample(t *testing.T, b docBlock, where string) {
	t.Helper()
	file, name, _ := strings.Cut(where, " ")
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, filepath.Join("..", "..", file), nil, parser.ParseComments)
	if err != nil {
		t.Errorf("line %d: %v", b.line, err)
		return
	}
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != name {
			continue
		}
		var source strings.Builder
		if err := printer.Fprint(&source, fset, &printer.CommentedNode{Node: f, Comments: parsed.Comments}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(flat(source.String()), flat(b.text)) {
			t.Errorf("line %d: the block is no part of %s in %s", b.line, name, file)
		}
		return
	}
	t.Errorf("line %d: %s has no %s", b.line, file, name)
}

// flat drops what lines begin and end with.
func flat(source string) string {
	var lines []string
	for line := range strings.Lines(source) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
