package shop

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
)

var stock = map[string]int{"pot": 10}

// books returns a database in which two orders of one pot were worked on.
func books(t *testing.T) (*Memory, []*Order) {
	t.Helper()
	m := NewMemory(stock)
	ctx := context.Background()
	var placed []*Order
	for i, id := range []string{"a", "b"} {
		o := &Order{ID: id, Item: "pot", Quantity: 1, Cents: 100}
		placed = append(placed, o)
		row, err := m.Row(ctx, "pot")
		if err != nil {
			t.Fatal(err)
		}
		row.Stock--
		row.Outcome[id] = Shipped
		for _, err := range []error{
			m.Charge(ctx, id, 100), m.Update(ctx, "pot", lease.Token(7+i), row), m.Finish(ctx, id, Shipped),
		} {
			if err != nil {
				t.Fatalf("order %d: %v", i, err)
			}
		}
	}
	return m, placed
}

func TestAudit(t *testing.T) {
	m, placed := books(t)
	if wrong := m.Audit(placed, stock); len(wrong) > 0 {
		t.Fatalf("good books: %q", wrong)
	}
	for _, tt := range []struct {
		name   string
		damage func(*Memory)
		want   string
	}{
		{"lost order", func(m *Memory) { delete(m.finished, "a") }, "is lost"},
		{"not charged", func(m *Memory) { delete(m.charges, "b") }, "was charged 0 cents"},
		{"taken twice", func(m *Memory) { r := m.rows["pot"]; r.Stock--; m.rows["pot"] = r }, "has 7 in stock, the orders leave 8"},
		{"unknown order", func(m *Memory) { m.rows["pot"].Outcome["c"] = Refused }, "nobody placed it"},
		{"other outcome", func(m *Memory) { m.finished["a"] = Refused }, "the stock says"},
	} {
		m, placed := books(t)
		tt.damage(m)
		if wrong := strings.Join(m.Audit(placed, stock), "; "); !strings.Contains(wrong, tt.want) {
			t.Errorf("%s: found %q, want %q", tt.name, wrong, tt.want)
		}
	}
}

func TestUpdateRefusesAnOvertakenHolder(t *testing.T) {
	m := NewMemory(stock)
	ctx := context.Background()
	row, _ := m.Row(ctx, "pot")
	if err := m.Update(ctx, "pot", 2, row); err != nil {
		t.Fatal(err)
	}
	if err := m.Update(ctx, "pot", 1, row); !errors.Is(err, ErrStale) {
		t.Fatalf("update with an older token: %v, want ErrStale", err)
	}
}
