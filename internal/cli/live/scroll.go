package live

import "fmt"

// Scroll is a window on lines, the first of which stays: the titles of a
// table. The zero value shows the beginning.
type Scroll struct {
	top  int // the first that is shown, besides the titles
	page int // how many were shown
}

// Lines returns what of all is to be seen in so many lines of the screen.
func (s *Scroll) Lines(all []Line, height int) []Line {
	if height < 1 || len(all) == 0 {
		return nil
	}
	s.page = height - 1
	s.top = min(s.top, max(0, len(all)-1-s.page))
	shown := append([]Line{all[0]}, all[1+s.top:]...)
	return shown[:min(len(shown), height)]
}

// Rest says, in a few words, how many of so many rows cannot be seen; nothing
// if all can.
func (s *Scroll) Rest(rows int) string {
	below := max(0, rows-s.top-s.page)
	switch {
	case s.top > 0 && below > 0:
		return fmt.Sprintf(" (%d more above, %d below)", s.top, below)
	case s.top > 0:
		return fmt.Sprintf(" (%d more above)", s.top)
	case below > 0:
		return fmt.Sprintf(" (%d more below)", below)
	}
	return ""
}

// Foot puts text on the last line of a screen of so many.
func Foot(lines []Line, height int, text string) []Line {
	for len(lines) < height-1 {
		lines = append(lines, Line{})
	}
	return append(lines, Line{Text: text, Style: Dim})
}

// Key moves the window.
func (s *Scroll) Key(k Key) Action {
	switch k {
	case Up, 'k':
		s.top--
	case Down, 'j':
		s.top++
	case PageUp:
		s.top -= max(1, s.page)
	case PageDown, ' ':
		s.top += max(1, s.page)
	case Home, 'g':
		s.top = 0
	case End, 'G':
		s.top = 1 << 30 // Lines takes what there is
	default:
		return Ignore
	}
	s.top = max(0, s.top)
	return Redraw
}
