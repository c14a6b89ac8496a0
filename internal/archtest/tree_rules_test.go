package archtest

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a Go file may be: past it, ask what the second thing
// in it is.
const maxLines = 500

// vagueNames say nothing about what is in a package.
var vagueNames = []string{"base", "common", "helper", "helpers", "misc", "pkg", "shared", "util", "utils"}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	tr := load(t)
	for _, dir := range tr.dirs() {
		sources := tr.sources(dir)
		if len(sources) == 0 {
			continue // a directory of tests of the packages around it
		}
		var docs []string
		for _, f := range sources {
			if f.ast.Doc == nil {
				continue
			}
			docs = append(docs, f.path)
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				name := path.Base(dir)
				want = strings.ToUpper(name[:1]) + name[1:] + " "
			}
			if text := f.ast.Doc.Text(); !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment must begin with %q", f.path, want)
			}
		}
		if len(docs) != 1 {
			t.Errorf("%s: want a package comment in one file, have it in %d %v", dir, len(docs), docs)
		}
	}
}

func TestNoVagueNames(t *testing.T) {
	for _, dir := range load(t).dirs() {
		for _, element := range strings.Split(dir, "/") {
			if slices.Contains(vagueNames, element) {
				t.Errorf("%s: %q does not say what is in it", dir, element)
			}
		}
	}
}

func TestFilesFitAReader(t *testing.T) {
	tr := load(t)
	for name := range tr.files {
		if lines := strings.Count(tr.texts[name], "\n"); lines > maxLines {
			t.Errorf("%s has %d lines, at most %d", name, lines, maxLines)
		}
	}
}

// The words are put together here so that this file does not hold them.
var (
	unfinished   = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)
	machinePaths = regexp.MustCompile(`(^|[^A-Za-z0-9_.*)}])/(` + strings.Join([]string{"wo" + "rk", "ho" + "me", "ro" + "ot", "Us" + "ers"}, "|") + `)/`)
)

func TestNothingUnfinishedAndNoPathOfAMachine(t *testing.T) {
	for name, text := range load(t).texts {
		for i, line := range strings.Split(text, "\n") {
			if m := unfinished.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: do it, or open an issue", name, i+1, m)
			}
			if m := machinePaths.FindString(line); m != "" {
				t.Errorf("%s:%d: %q is a path of one machine", name, i+1, m)
			}
		}
	}
}

// A dependency is a decision: ARCHITECTURE.md says why it was taken.
func TestEveryDirectDependencyIsExplained(t *testing.T) {
	tr := load(t)
	direct := directDependencies(tr.texts["go.mod"])
	if len(direct) == 0 {
		t.Fatal("go.mod names no direct dependency: is it read right?")
	}
	for _, dep := range direct {
		if !strings.Contains(tr.texts["ARCHITECTURE.md"], "`"+dep+"`") {
			t.Errorf("go.mod: ARCHITECTURE.md must name `%s` and say why", dep)
		}
	}
}

var requirement = regexp.MustCompile(`^(?:require )?\s*([a-z0-9.]+\.[a-z]+/\S+) v\S+$`)

func directDependencies(goMod string) []string {
	var out []string
	for line := range strings.Lines(goMod) {
		if m := requirement.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			out = append(out, m[1])
		}
	}
	return out
}
