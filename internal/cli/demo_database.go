package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/examples/orders/shop"
	"github.com/lockkeeper/lockkeeper/lease"
)

// databaseTimeout bounds one call of the demo's database.
const databaseTimeout = 10 * time.Second

// databaseServer lends the demo's database to its services, which are other
// processes. It stands for a database server that is not killed.
type databaseServer struct {
	url  string
	http *http.Server
}

// databaseCall is the body of a request; each method uses what it needs.
type databaseCall struct {
	OrderID string      `json:"order_id,omitempty"`
	Cents   int         `json:"cents,omitempty"`
	Item    string      `json:"item,omitempty"`
	Token   lease.Token `json:"token,omitzero"`
	Row     *shop.Row   `json:"row,omitempty"`
	Outcome string      `json:"outcome,omitempty"`
}

func serveDatabase(ctx context.Context, db shop.Database) (*databaseServer, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	handle := func(path string, do func(context.Context, *databaseCall) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var call databaseCall
			if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			out, err := do(r.Context(), &call)
			switch {
			case errors.Is(err, shop.ErrStale):
				http.Error(w, err.Error(), http.StatusConflict)
			case err != nil:
				http.Error(w, err.Error(), http.StatusInternalServerError)
			default:
				_ = json.NewEncoder(w).Encode(out) // a service that was killed does not read it
			}
		})
	}
	handle("/charge", func(ctx context.Context, c *databaseCall) (any, error) {
		return nil, db.Charge(ctx, c.OrderID, c.Cents)
	})
	handle("/row", func(ctx context.Context, c *databaseCall) (any, error) { return db.Row(ctx, c.Item) })
	handle("/update", func(ctx context.Context, c *databaseCall) (any, error) {
		if c.Row == nil {
			return nil, errors.New("no row")
		}
		return nil, db.Update(ctx, c.Item, c.Token, *c.Row)
	})
	handle("/finish", func(ctx context.Context, c *databaseCall) (any, error) {
		return nil, db.Finish(ctx, c.OrderID, c.Outcome)
	})
	s := &databaseServer{url: "http://" + ln.Addr().String(), http: &http.Server{Handler: mux, ReadHeaderTimeout: databaseTimeout}}
	go func() { _ = s.http.Serve(ln) }() // ends with Close
	return s, nil
}

// Close ends it at once.
func (s *databaseServer) Close() error { return s.http.Close() }

// remoteDatabase is the database as a service sees it.
type remoteDatabase struct{ url string }

func (d *remoteDatabase) Charge(ctx context.Context, orderID string, cents int) error {
	return d.call(ctx, "/charge", &databaseCall{OrderID: orderID, Cents: cents}, nil)
}

func (d *remoteDatabase) Row(ctx context.Context, item string) (shop.Row, error) {
	var row shop.Row
	err := d.call(ctx, "/row", &databaseCall{Item: item}, &row)
	return row, err
}

func (d *remoteDatabase) Update(ctx context.Context, item string, token lease.Token, row shop.Row) error {
	return d.call(ctx, "/update", &databaseCall{Item: item, Token: token, Row: &row}, nil)
}

func (d *remoteDatabase) Finish(ctx context.Context, orderID, outcome string) error {
	return d.call(ctx, "/finish", &databaseCall{OrderID: orderID, Outcome: outcome}, nil)
}

func (d *remoteDatabase) call(ctx context.Context, path string, in *databaseCall, out any) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if out == nil {
			return nil
		}
		return json.Unmarshal(answer, out)
	case http.StatusConflict:
		return shop.ErrStale
	}
	return fmt.Errorf("database: %s: %s", resp.Status, bytes.TrimSpace(answer))
}
