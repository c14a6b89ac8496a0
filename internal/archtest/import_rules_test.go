package archtest

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const machineDir = "engine/internal/machine"

// machineImports is all that the machine may know. The list says what is
// allowed and not what is forbidden, so that something new is a decision.
var machineImports = []string{
	"bytes", "cmp", "container/heap", "crypto/hmac", "crypto/sha256", "encoding/base64", "encoding/binary",
	"errors", "fmt", "hash", "iter", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings", "time", "unicode/utf8",
	"github.com/cespare/xxhash/v2",
	modulePath + "/engine/internal/record",
	modulePath + "/lease",
	modulePath + "/lock/driver",
	modulePath + "/queue/driver",
}

// timeNames is what the machine may use of package time: lengths, their
// units, and times that it is given. All the rest reads a clock or waits.
var timeNames = []string{
	"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour",
	"Time", "Unix", "UnixMilli", "UnixMicro",
}

func TestMachineIsPure(t *testing.T) {
	tr := load(t)
	sources := tr.sources(machineDir)
	if len(sources) == 0 {
		t.Fatalf("no package in %s", machineDir)
	}
	for _, f := range sources {
		imports := f.imports()
		for _, p := range imports {
			if !slices.Contains(machineImports, p) {
				t.Errorf("%s imports %s: the machine does no I/O, reads no clock and draws no random number", f.path, p)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType, *ast.SendStmt:
				t.Errorf("%s: the machine is driven by one goroutine and starts none", tr.at(n))
			case *ast.SelectorExpr:
				if p, name := qualified(imports, n); p == "time" && !slices.Contains(timeNames, name) {
					t.Errorf("%s: time.%s: the time is an argument", tr.at(n), name)
				}
			}
			return true
		})
	}
}

// layers says what the packages below a directory must not import, with the
// reason. Tests may: they put the parts together.
var layers = []struct{ dir, deny, why string }{
	{"lease", "/lock", "lease is below both"},
	{"lease", "/queue", "lease is below both"},
	{"lock", "/queue", "each can be used without the other"},
	{"queue", "/lock", "each can be used without the other"},
	{"lock", "/engine", "the portable API knows no driver"},
	{"queue", "/engine", "the portable API knows no driver"},
	{"lock", "/drivers", "the portable API knows no driver"},
	{"queue", "/drivers", "the portable API knows no driver"},
	{"engine", "/server", "the engine knows no network"},
	{"engine", "/drivers", "one driver does not know another"},
	{"drivers", "/engine", "one driver does not know another"},
	{"drivers", "/server", "a client does not hold its server"},
	{"server", "/drivers", "the server runs over any driver"},
}

func TestLayers(t *testing.T) {
	tr := load(t)
	for _, rule := range layers {
		for dir := range tr.pkgs {
			if !within(dir, rule.dir) {
				continue
			}
			for _, f := range tr.sources(dir) {
				for _, p := range f.imports() {
					if within(p, modulePath+rule.deny) {
						t.Errorf("%s imports %s: %s", f.path, p, rule.why)
					}
				}
			}
		}
	}
}

// A user cannot name a type of an internal package, so an exported signature
// must not hold one.
func TestPublicSignaturesHoldNoInternalTypes(t *testing.T) {
	tr := load(t)
	for dir := range tr.pkgs {
		if slices.Contains(strings.Split(dir, "/"), "internal") {
			continue
		}
		for _, f := range tr.sources(dir) {
			if f.ast.Name.Name == "main" {
				continue
			}
			imports := f.imports()
			for _, part := range exportedParts(f.ast) {
				ast.Inspect(part, func(n ast.Node) bool {
					sel, ok := n.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if p, name := qualified(imports, sel); slices.Contains(strings.Split(p, "/"), "internal") {
						t.Errorf("%s: %s.%s is internal and part of an exported declaration", tr.at(sel), p, name)
					}
					return true
				})
			}
		}
	}
}

// exportedParts returns what a user sees of a file's exported declarations:
// signatures, the exported fields and methods of types, types of variables.
func exportedParts(file *ast.File) []ast.Node {
	var out []ast.Node
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Name.IsExported() && (decl.Recv == nil || receiverExported(decl.Recv)) {
				out = append(out, decl.Type)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						out = append(out, typeParts(spec)...)
					}
				case *ast.ValueSpec:
					if spec.Type != nil && slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
						out = append(out, spec.Type)
					}
				}
			}
		}
	}
	return out
}

func typeParts(spec *ast.TypeSpec) []ast.Node {
	var out []ast.Node
	if spec.TypeParams != nil {
		out = append(out, spec.TypeParams)
	}
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return append(out, spec.Type)
	}
	for _, field := range s.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			out = append(out, field.Type)
		}
	}
	return out
}

func receiverExported(recv *ast.FieldList) bool {
	exported := false
	ast.Inspect(recv.List[0].Type, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if ok && !exported {
			exported = id.IsExported()
			return false
		}
		return !ok
	})
	return exported
}

// qualified returns the import path and the name of pkg.Name, or nothing if
// the selector is of something else.
func qualified(imports map[string]string, sel *ast.SelectorExpr) (importPath, name string) {
	id, ok := sel.X.(*ast.Ident)
	if !ok || imports[id.Name] == "" {
		return "", ""
	}
	return imports[id.Name], sel.Sel.Name
}

// within reports whether a slash-separated path is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
