package live

import (
	"slices"
	"strings"
	"testing"
)

func TestWidthAndClip(t *testing.T) {
	for _, c := range []struct {
		text    string
		width   int
		columns int
		clipped string
	}{
		{"", 0, 0, ""},
		{"abc", 3, 3, "abc"},
		{"abcd", 4, 3, "ab…"},
		{"abcd", 4, 1, "…"},
		{"abcd", 4, 0, ""},
		{"größe", 5, 4, "grö…"},
		{"日本語", 6, 6, "日本語"},
		{"日本語", 6, 5, "日本…"},
		{"日本語", 6, 4, "日…"},
		{"e\u0301e\u0301", 2, 2, "e\u0301e\u0301"},
		{"🔒lock", 6, 6, "🔒lock"},
	} {
		if got := Width(c.text); got != c.width {
			t.Errorf("Width(%q) = %d, want %d", c.text, got, c.width)
		}
		if got := Clip(c.text, c.columns); got != c.clipped {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.text, c.columns, got, c.clipped)
		}
	}
}

// What a name holds never reaches the terminal as a command.
func TestCleanReplacesWhatATerminalActsUpon(t *testing.T) {
	if got := Clean("a\x1b[2Jb\u202ec\x9bd\té 日"); got != "a�[2Jb�c�d�é 日" {
		t.Errorf("%q", got)
	}
}

func texts(lines []Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

func TestTableFitsIntoTheWidth(t *testing.T) {
	table := &Table{
		Columns: []Column{{Title: "NAME", Flex: true}, {Title: "READY", Right: true}, {Title: "MORE", Drop: 1}, {Title: "MOST", Right: true, Drop: 2}},
		Rows:    [][]string{{"a-name-of-twenty-two-ch", "1", "x", "12345"}, {"b", "100", "yy", "6"}},
	}
	for _, c := range []struct {
		width int
		want  []string
	}{
		{0, []string{
			"NAME                     READY  MORE   MOST",
			"a-name-of-twenty-two-ch      1  x     12345",
			"b                          100  yy        6",
		}},
		{43, []string{
			"NAME                     READY  MORE   MOST",
			"a-name-of-twenty-two-ch      1  x     12345",
			"b                          100  yy        6",
		}},
		{40, []string{
			"NAME                  READY  MORE   MOST",
			"a-name-of-twenty-tw…      1  x     12345",
			"b                       100  yy        6",
		}},
		{31, []string{
			"NAME                READY  MORE",
			"a-name-of-twenty-…      1  x",
			"b                     100  yy",
		}},
		{20, []string{
			"NAME           READY",
			"a-name-of-tw…      1",
			"b                100",
		}},
		{5, []string{ // cannot be: the screen cuts it
			"NAME          READY",
			"a-name-of-t…      1",
			"b               100",
		}},
	} {
		if got := texts(table.Lines(c.width)); !slices.Equal(got, c.want) {
			t.Errorf("width %d:\n%s\nwant:\n%s", c.width, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	if got := table.String(); !strings.HasSuffix(got, "yy        6\n") || strings.Count(got, "\n") != 3 {
		t.Errorf("String: %q", got)
	}
}

// The one that would be left out first becomes shorter first.
func TestTableShortensWhatMattersLess(t *testing.T) {
	table := &Table{
		Columns: []Column{{Title: "NAME", Flex: true}, {Title: "HOLDER", Flex: true, Drop: 1}},
		Rows:    [][]string{{strings.Repeat("n", 20), strings.Repeat("h", 15)}},
	}
	for width, want := range map[int]string{
		37: "nnnnnnnnnnnnnnnnnnnn  hhhhhhhhhhhhhhh",
		36: "nnnnnnnnnnnnnnnnnnnn  hhhhhhhhhhhhh…",
		34: "nnnnnnnnnnnnnnnnnnnn  hhhhhhhhhhh…",
		33: "nnnnnnnnnnnnnnnnnn…  hhhhhhhhhhh…",
		26: "nnnnnnnnnnn…  hhhhhhhhhhh…",
		25: "nnnnnnnnnnnnnnnnnnnn",
	} {
		if got := table.Lines(width)[1].Text; got != want {
			t.Errorf("width %d: %q, want %q", width, got, want)
		}
	}
}

func TestScroll(t *testing.T) {
	all := Lines("T\n1\n2\n3\n4\n5\n")
	var s Scroll
	for _, c := range []struct {
		key  Key
		want string
		rest string
	}{
		{0, "T 1 2", " (3 more below)"},
		{Up, "T 1 2", " (3 more below)"},
		{Down, "T 2 3", " (1 more above, 2 below)"},
		{PageDown, "T 4 5", " (3 more above)"},
		{PageDown, "T 4 5", " (3 more above)"},
		{PageUp, "T 2 3", " (1 more above, 2 below)"},
		{End, "T 4 5", " (3 more above)"},
		{Home, "T 1 2", " (3 more below)"},
	} {
		if a := s.Key(c.key); (a == Redraw) != (c.key != 0) {
			t.Errorf("key %d: action %d", c.key, a)
		}
		if got := strings.Join(texts(s.Lines(all, 3)), " "); got != c.want || s.Rest(5) != c.rest {
			t.Errorf("after key %d: %q%s, want %q%s", c.key, got, s.Rest(5), c.want, c.rest)
		}
	}
	s.Key(End)
	if got := strings.Join(texts(s.Lines(all, 10)), " "); got != "T 1 2 3 4 5" || s.Rest(5) != "" {
		t.Errorf("where all fits: %q%s", got, s.Rest(5))
	}
	for _, height := range []int{-1, 0, 1} {
		if got := s.Lines(all, height); len(got) != max(0, height) {
			t.Errorf("height %d: %d lines", height, len(got))
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		typed string
		want  []Key
		rest  string
	}{
		{"q", []Key{'q'}, ""},
		{"ä日", []Key{'ä', '日'}, ""},
		{"\xe6\x97", nil, "\xe6\x97"},
		{"a\x1b", []Key{'a'}, "\x1b"},
		{"\x1b[", nil, "\x1b["},
		{"\x1b[A\x1b[B\x1bOC\x1b[D", []Key{Up, Down, Right, Left}, ""},
		{"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[F", []Key{PageUp, PageDown, Home, End, Home, End}, ""},
		{"\x1b[1;5Ax", []Key{Unknown, 'x'}, ""},
		{"\x1bx", []Key{Escape, 'x'}, ""},
		{"\r\n\b\x7f\t\x03", []Key{Enter, Enter, Backspace, Backspace, Tab, CtrlC}, ""},
	} {
		keys, rest := decode([]byte(c.typed), false)
		if !slices.Equal(keys, c.want) || string(rest) != c.rest {
			t.Errorf("decode(%q) = %v, %q; want %v, %q", c.typed, keys, rest, c.want, c.rest)
		}
	}
	for typed, want := range map[string]Key{"\x1b": Escape, "\x1b[12": Unknown} {
		if keys, rest := decode([]byte(typed), true); !slices.Equal(keys, []Key{want}) || len(rest) > 0 {
			t.Errorf("at the end decode(%q) = %v, %q; want %v", typed, keys, rest, want)
		}
	}
}

// Whatever is typed is taken, sooner or later, and nothing is read twice.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("q\x1b[A\x1b[12;3~\xff\xe6"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, rest := decode(b, false)
		if len(keys)+len(rest) > len(b) {
			t.Errorf("%q gives %d keys and %q", b, len(keys), rest)
		}
		if _, rest := decode(rest, true); len(rest) > 0 {
			t.Errorf("%q leaves %q at the end", b, rest)
		}
	})
}
