package shop

import "fmt"

// Audit compares the database with the orders that were confirmed to
// customers and with the stock at the beginning, and returns what is wrong.
func (m *Memory) Audit(confirmed []*Order, stock map[string]int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wrong []string
	found := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	known := map[string]bool{}
	left := map[string]int{}
	for item, n := range stock {
		left[item] = n
	}
	for _, o := range confirmed {
		known[o.ID] = true
		outcome, in := m.finished[o.ID], m.rows[o.Item].Outcome[o.ID]
		switch {
		case outcome == "":
			found("order %s was confirmed and is lost", o.ID)
		case outcome != in:
			found("order %s is %s, the stock says %q", o.ID, outcome, in)
		}
		if cents, paid := m.charges[o.ID]; !paid || cents != o.Cents {
			found("order %s was charged %d cents instead of %d", o.ID, cents, o.Cents)
		}
		if in == Shipped {
			left[o.Item] -= o.Quantity
		}
	}
	for item, row := range m.rows {
		if row.Stock != left[item] {
			found("item %s has %d in stock, the orders leave %d", item, row.Stock, left[item])
		}
		for id := range row.Outcome {
			if !known[id] {
				found("order %s was worked on, and nobody placed it", id)
			}
		}
	}
	return wrong
}
