package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/lockkeeper/lockkeeper"

// textNames are the files, by ending or by name, that people write and read.
var textNames = []string{".go", ".md", ".mod", ".sh", ".yml", ".yaml", ".json", ".txt", ".html", "Makefile", "run"}

// tree is the module as it lies on disk, with slash-separated paths from its
// root. Directories of their own module, of built things and of version
// control are not part of it.
type tree struct {
	fset  *token.FileSet
	texts map[string]string   // by path
	files map[string]*goFile  // by path
	pkgs  map[string][]string // directory to the paths of its Go files, tests included
}

// goFile is one parsed source file.
type goFile struct {
	path string
	test bool
	ast  *ast.File
}

// load reads the whole tree.
func load(t *testing.T) *tree {
	t.Helper()
	root := filepath.Join("..", "..")
	tr := &tree{
		fset:  token.NewFileSet(),
		texts: map[string]string{},
		files: map[string]*goFile{},
		pkgs:  map[string][]string{},
	}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			return skip(name, rel)
		}
		if !d.Type().IsRegular() || !slices.ContainsFunc(textNames, func(s string) bool { return strings.HasSuffix(rel, s) }) {
			return nil
		}
		return tr.add(name, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.pkgs) < 5 || tr.files["lease/lease.go"] == nil {
		t.Fatalf("found only %d packages: not the root of the module?", len(tr.pkgs))
	}
	return tr
}

// skip says which directories are not part of the tree.
func skip(name, rel string) error {
	if rel == "." {
		return nil
	}
	base := path.Base(rel)
	if base == "bin" || base == "lockkeeper-data" || strings.HasPrefix(base, ".") && base != ".ci" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (tr *tree) add(name, rel string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	tr.texts[rel] = string(text)
	if !strings.HasSuffix(rel, ".go") || strings.Contains(rel, "testdata/") {
		return nil
	}
	file, err := parser.ParseFile(tr.fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	tr.files[rel] = &goFile{path: rel, test: strings.HasSuffix(rel, "_test.go"), ast: file}
	dir := path.Dir(rel)
	tr.pkgs[dir] = append(tr.pkgs[dir], rel)
	return nil
}

// sources returns the files of a directory that are not tests.
func (tr *tree) sources(dir string) []*goFile {
	var out []*goFile
	for _, name := range tr.pkgs[dir] {
		if f := tr.files[name]; !f.test {
			out = append(out, f)
		}
	}
	return out
}

// dirs returns the directories of all packages, sorted.
func (tr *tree) dirs() []string { return slices.Sorted(maps.Keys(tr.pkgs)) }

// at returns where a node is, for messages.
func (tr *tree) at(n ast.Node) string {
	p := tr.fset.Position(n.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// imports returns the import paths of a file by the name that it uses for
// them. The name of an import without one is taken to be the last element,
// less a version.
func (f *goFile) imports() map[string]string {
	out := map[string]string{}
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(p)
		if strings.HasPrefix(name, "v") && len(name) == 2 {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		out[name] = p
	}
	return out
}
