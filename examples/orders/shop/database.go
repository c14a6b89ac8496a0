package shop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Row is the stock of an item.
type Row struct {
	Stock   int               `json:"stock"`
	Outcome map[string]string `json:"outcome"` // by order id: Shipped or Refused
}

// ErrStale refuses a write whose token is smaller than one seen before.
var ErrStale = errors.New("stale token: the lock has gone to another since")

// Database stands for the databases that services have. It knows nothing of
// locks: rows are read and written as a whole, so that two writers at a time
// would undo each other's work.
type Database interface {
	// Charge takes money for an order, once.
	Charge(ctx context.Context, orderID string, cents int) error
	// Row reads the stock of an item.
	Row(ctx context.Context, item string) (Row, error)
	// Update writes it. ErrStale if a greater token was seen. In SQL:
	//
	//	UPDATE stock SET ..., token = $1 WHERE item = $2 AND token <= $1
	Update(ctx context.Context, item string, token lease.Token, row Row) error
	// Finish keeps what became of an order: Shipped or Refused.
	Finish(ctx context.Context, orderID, outcome string) error
}

// Memory is a Database in memory. It also counts what its users should never
// let happen, and what they cannot help.
type Memory struct {
	mu       sync.Mutex
	rows     map[string]Row
	tokens   map[string]lease.Token
	charges  map[string]int
	finished map[string]string

	// Counters; read them when nobody uses the Memory.
	Updates  int // writes of rows
	Stale    int // writes refused because of their token
	Repeated int // charges and outcomes that were there already
}

// NewMemory returns a database with some stock.
func NewMemory(stock map[string]int) *Memory {
	m := &Memory{
		rows: map[string]Row{}, tokens: map[string]lease.Token{}, charges: map[string]int{}, finished: map[string]string{},
	}
	for item, n := range stock {
		m.rows[item] = Row{Stock: n, Outcome: map[string]string{}}
	}
	return m
}

// Charge implements Database.
func (m *Memory) Charge(_ context.Context, orderID string, cents int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, done := m.charges[orderID]; done {
		m.Repeated++
		return nil
	}
	m.charges[orderID] = cents
	return nil
}

// Row implements Database.
func (m *Memory) Row(_ context.Context, item string) (Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[item]
	if !ok {
		return Row{}, fmt.Errorf("no item %q", item)
	}
	row.Outcome = maps.Clone(row.Outcome)
	return row, nil
}

// Update implements Database.
func (m *Memory) Update(_ context.Context, item string, token lease.Token, row Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token < m.tokens[item] {
		m.Stale++
		return ErrStale
	}
	m.Updates++
	m.tokens[item] = token
	row.Outcome = maps.Clone(row.Outcome)
	m.rows[item] = row
	return nil
}

// Finish implements Database.
func (m *Memory) Finish(_ context.Context, orderID, outcome string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, done := m.finished[orderID]; done {
		m.Repeated++
		if before != outcome {
			return fmt.Errorf("order %s is %s already, and now %s", orderID, before, outcome)
		}
	}
	m.finished[orderID] = outcome
	return nil
}

// Finished returns how many orders are finished.
func (m *Memory) Finished() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.finished)
}

// Counts is what a Memory has counted so far.
type Counts struct{ Charged, Finished, Updates, Stale, Repeated int }

// Counts may be called while others use the Memory.
func (m *Memory) Counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Counts{len(m.charges), len(m.finished), m.Updates, m.Stale, m.Repeated}
}

// Outcome returns what became of an order, or "".
func (m *Memory) Outcome(orderID string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.finished[orderID]
}
