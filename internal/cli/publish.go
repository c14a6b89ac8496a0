package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// publishing is one `lockkeeper publish`.
type publishing struct {
	*app
	route     queue.Route
	message   queue.Message // with --lines, what all messages share
	headers   []string
	delay     humanDuration
	ttl       humanDuration
	at        string
	lines     bool
	mandatory bool
}

func (a *app) publishCommand() *cobra.Command {
	p := &publishing{app: a}
	cmd := &cobra.Command{
		Use:     "publish EXCHANGE ROUTING-KEY [BODY]",
		GroupID: groupQueues,
		Short:   "Publish a message, or one for each line of input",
		Long: `Publish a message and wait until it is confirmed. The body is the argument, or
standard input, byte for byte. EXCHANGE "" is the default exchange: there the
routing key is the name of the queue.

With --lines each line of standard input is a message, without the line's end.
They are sent while others are being confirmed, and the last line says how
many were confirmed. After Ctrl-C what was sent is still waited for.

A message that matches no queue is dropped, with a warning. With --mandatory
that is an error, and with --lines the rest is still published.

With --id a queue that has a dedup window takes the message once, however
often it is published. With --lines the line's number is added: --id import
gives import-1, import-2 and so on, so that an import that was cut off can be
run again as a whole.`,
		Example: `  lockkeeper publish "" mail 'hello'
  lockkeeper publish shop order.placed --id order-1017 --header source=web < order.json
  lockkeeper publish shop order.placed --lines --mandatory --id import-7 < orders.ndjson
  lockkeeper publish "" reminders 'wake up' --delay 8h --id reminder-17    # see: lockkeeper cancel
  lockkeeper publish "" reminders 'happy new year' --at 2030-01-01T00:00:00+01:00
  lockkeeper publish "" stock 'item 42: -1' --key item-42   # in order with others of that key`,
		Args: arguments(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.lines && len(args) == 3 {
				return usageOf(cmd, errors.New("--lines reads bodies from standard input: leave out BODY"))
			}
			p.route = queue.Route{Exchange: args[0], Key: args[1]}
			p.message.Delay, p.message.TTL = time.Duration(p.delay), time.Duration(p.ttl)
			var err error
			if p.message.NotBefore, err = parseAt(p.at); err != nil {
				return usageOf(cmd, err)
			}
			if p.message.Headers, err = parseHeaders(p.headers); err != nil {
				return usageOf(cmd, err)
			}
			if p.lines {
				return p.publishLines(cmd.Context())
			}
			if len(args) == 3 {
				p.message.Body = []byte(args[2])
			} else if p.message.Body, err = readBody(a.In); err != nil {
				return err
			}
			return a.withQueues(cmd.Context(), p.publishOne)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.message.ID, "id", "", "message id for deduplication; with --lines the line's number is added")
	f.StringVar(&p.message.OrderKey, "key", "", "order key: messages with one key are handled one after another, in order")
	f.StringArrayVar(&p.headers, "header", nil, "`k=v`, a string; repeatable")
	f.Var(&p.delay, "delay", "do not deliver before so long has passed, like 30s, 8h or 7d")
	f.StringVar(&p.at, "at", "", "do not deliver before this `TIME`, like 2030-01-01T08:00:00Z")
	f.Var(&p.ttl, "ttl", "drop or dead-letter it when it has waited so long, like 30s")
	f.Uint8Var(&p.message.Priority, "priority", 0, "0 to 9: higher ones first, in a queue that has priorities")
	f.StringVar(&p.message.ContentType, "content-type", "", "like application/json; not interpreted")
	f.BoolVar(&p.mandatory, "mandatory", false, "a message that matches no queue is an error")
	f.BoolVar(&p.lines, "lines", false, "publish each line of standard input as a message")
	return cmd
}

func parseHeaders(pairs []string) (queue.Headers, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	h := queue.Headers{}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--header must be like k=v, is %q", pair)
		}
		if _, twice := h[k]; twice {
			return nil, fmt.Errorf("--header %q is there twice", k)
		}
		h[k] = v
	}
	return h, nil
}

// parseAt reads the time of --at; "" is none.
func parseAt(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, fmt.Errorf("--at must be a time like 2030-01-01T08:00:00Z, is %q", s)
	}
	return at.UTC(), nil
}

// readBody reads one more byte than a body may have, so that the limit is
// noticed and the input not read without end.
func readBody(in io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(in, driver.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return body, nil
}

// receiptJSON is what `publish --json` prints for one message.
type receiptJSON struct {
	ID         string `json:"id,omitempty"`
	Durability string `json:"durability"`
	Queues     int    `json:"queues"`
	Duplicate  bool   `json:"duplicate"`
}

func (p *publishing) publishOne(ctx context.Context, queues *queue.Broker) (err error) {
	publisher := queues.Publisher(&queue.PublisherOptions{Optional: !p.mandatory})
	defer closing(&err, publisher.Close)
	pending, err := publisher.Send(ctx, p.route, &p.message)
	if err != nil {
		return err
	}
	receipt, err := pending.Receipt(ctx)
	if err != nil {
		return err
	}
	if receipt.Queues == 0 && !receipt.Duplicate {
		p.say("no queue matches exchange %q and key %q: the message was dropped (--mandatory makes this an error)",
			p.route.Exchange, p.route.Key)
	}
	if p.json {
		return p.printJSON(receiptJSON{p.message.ID, string(receipt.Durability), receipt.Queues, receipt.Duplicate})
	}
	switch {
	case receipt.Duplicate:
		_, err = fmt.Fprintf(p.Out, "confirmed: was published before with id %s\n", p.message.ID)
	case receipt.Queues > 0:
		_, err = fmt.Fprintf(p.Out, "confirmed (%s) by %s\n", receipt.Durability, plural(int64(receipt.Queues), "queue"))
	}
	return err
}

// lineSource reads messages' bodies from lines.
type lineSource struct {
	scanner *bufio.Scanner
	n       int
}

func newLineSource(in io.Reader) *lineSource {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 64<<10), driver.MaxBody+2)
	s.Split(scanRawLines)
	return &lineSource{scanner: s}
}

// scanRawLines is bufio.ScanLines without the removal of carriage returns: a
// body is published as it is.
func scanRawLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func (s *lineSource) next() (body []byte, number int, err error) {
	if s.scanner.Scan() {
		s.n++
		return bytes.Clone(s.scanner.Bytes()), s.n, nil
	}
	switch err := s.scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, 0, fmt.Errorf("line %d is longer than the %d bytes of a body", s.n+1, driver.MaxBody)
	case err != nil:
		return nil, 0, fmt.Errorf("reading line %d: %w", s.n+1, err)
	}
	return nil, 0, io.EOF
}

// lineMessage is the message for one line.
func (p *publishing) lineMessage(body []byte, number int) *queue.Message {
	m := p.message
	m.Body = body
	if m.ID != "" {
		m.ID += "-" + strconv.Itoa(number)
	}
	return &m
}
