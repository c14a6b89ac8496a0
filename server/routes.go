package server

import (
	"net/http"
	"slices"

	"github.com/lockkeeper/lockkeeper/internal/wire"
)

// needs says which driver a route needs.
type needs int

const (
	needsNothing needs = iota
	needsLocks
	needsQueues
)

// route is one operation: what serves it, and what describes it.
type route struct {
	method, path string
	op           string // operationId, and label of metrics
	summary      string
	needs        needs
	public       bool // for probes: neither token nor Host is looked at
	params       []param
	required     string // the parameter that must be there
	in, out      any    // zero values of the JSON types; nil: none
	media        string // of an answer that is not JSON
	upgrade      bool   // to another protocol: answers 101
	serve        func(*call) error
}

// routes is the whole interface.
func routes() []route { return slices.Concat(mainRoutes(), streamRoutes(), scheduleRoutes()) }

func mainRoutes() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	list := []param{
		{"prefix", text, "names that begin so"},
		{"name", text, "exactly this one"},
		{"after", text, "continue behind this name"},
		{"limit", number, "at most so many, 1 to 1000; 100 without it"},
	}
	return []route{
		{method: post, path: "/v1/locks/acquire", op: "acquireLock", needs: needsLocks, in: wire.AcquireRequest{}, out: wire.AcquireReply{}, serve: serveAcquire,
			summary: "Acquire a lock, waiting up to wait_ms. 409 held if it is not free: with a ticket when the request is in the line."},
		{method: post, path: "/v1/locks/renew", op: "renewLocks", needs: needsLocks, in: wire.RenewRequest{}, out: wire.LeasesReply{}, serve: serveRenew,
			summary: "Give leases their TTL anew."},
		{method: post, path: "/v1/locks/release", op: "releaseLocks", needs: needsLocks, in: wire.ReleaseRequest{}, out: wire.LeasesReply{}, serve: serveRelease,
			summary: "Give leases back."},
		{method: post, path: "/v1/locks/cancel", op: "cancelAcquire", needs: needsLocks, in: wire.CancelRequest{}, serve: serveCancel,
			summary: "Undo an acquire: leave the line, release what it was granted."},
		{method: post, path: "/v1/locks/revoke", op: "revokeLock", needs: needsLocks, in: wire.RevokeRequest{}, serve: serveRevoke,
			summary: "Refuse a holder's further renewals, or take its lock away at once."},
		{method: post, path: "/v1/locks/value", op: "setLockValue", needs: needsLocks, in: wire.ValueRequest{}, serve: serveValue,
			summary: "Replace the value of a grant: what a leader shows."},
		{method: get, path: "/v1/locks/watch", op: "watchLocks", needs: needsLocks, media: "text/event-stream", serve: serveWatch,
			params:  []param{{"prefix", text, "names that begin so; all without it"}, {"name", text, "exactly this one"}},
			summary: "Watch names, as Server-Sent Events: reset, the state of each name, synced, and from then on state (a LockInfo) or gone (its name) of each name that changes. Only the last state of a name is told. A comment comes every 5 seconds when there is nothing to tell."},
		{method: get, path: "/v1/locks", op: "listLocks", needs: needsLocks, params: list, out: wire.LocksReply{}, serve: serveLocks,
			summary: "Who holds, who waits."},

		{method: put, path: "/v1/topology", op: "declareTopology", needs: needsQueues, in: wire.Topology{}, out: wire.TopologyReply{}, serve: serveDeclare,
			params:  []param{{"dry_run", flag, "only say what would change"}},
			summary: "Declare exchanges, queues and bindings: all or nothing, idempotent."},
		{method: get, path: "/v1/topology", op: "readTopology", needs: needsQueues, out: wire.Topology{}, serve: serveTopology,
			summary: "Everything declared."},
		{method: del, path: "/v1/queues", op: "deleteQueue", needs: needsQueues, required: "name", serve: serveDeleteQueue,
			params:  []param{{"name", text, "of the queue"}, {"if_empty", flag, "refuse if it has messages"}},
			summary: "Delete a queue with its messages."},
		{method: del, path: "/v1/exchanges", op: "deleteExchange", needs: needsQueues, required: "name", serve: serveDeleteExchange,
			params:  []param{{"name", text, "of the exchange"}, {"if_unused", flag, "refuse if it has bindings"}},
			summary: "Delete an exchange."},
		{method: del, path: "/v1/bindings", op: "deleteBinding", needs: needsQueues, required: "exchange", serve: serveDeleteBinding,
			params:  []param{{"exchange", text, "its exchange"}, {"queue", text, "its queue"}, {"to_exchange", text, "where it leads instead of to a queue"}, {"key", text, "its key"}, {"args", table, "its arguments as a JSON object"}},
			summary: "Delete a binding."},
		{method: get, path: "/v1/queues", op: "listQueues", needs: needsQueues, params: list, out: wire.QueuesReply{}, serve: serveQueues,
			summary: "Statistics of queues."},

		{method: post, path: "/v1/publish", op: "publish", needs: needsQueues, params: publishParams, in: wire.PublishRequest{}, out: wire.PublishReply{}, serve: servePublish,
			summary: "Publish. With exchange or key in the query the body is one message as it is, and the answer its receipt. Otherwise it is a batch, as JSON or with Content-Type application/x-ndjson as one message a line. Answers once the messages are as safe as the receipts say."},
		{method: post, path: "/v1/receive", op: "receive", needs: needsQueues, in: wire.ReceiveRequest{}, out: wire.ReceiveReply{}, serve: serveReceive,
			summary: "Lease messages, waiting up to wait_ms for the first."},
		{method: post, path: "/v1/receive/cancel", op: "cancelReceive", needs: needsQueues, in: wire.CancelReceiveRequest{}, serve: serveCancelReceive,
			summary: "End a waiting receive; it answers with no deliveries, or with what was on its way."},
		{method: post, path: "/v1/settle", op: "settle", needs: needsQueues, in: wire.SettleRequest{}, out: wire.SettleReply{}, serve: serveSettle,
			summary: "Ack, nack, release, reject or extend deliveries."},
		{method: del, path: "/v1/scheduled", op: "cancelScheduled", needs: needsQueues, required: "queue", serve: serveCancelScheduled,
			params:  []param{{"queue", text, "where it waits"}, {"id", text, "of the message"}},
			summary: "Cancel a message that waits for its time. 404 not_found if none of that id does: it came due, or never was."},
		{method: post, path: "/v1/commit", op: "commit", needs: needsQueues, in: wire.CommitRequest{}, out: wire.CommitReply{}, serve: serveCommit,
			summary: "Settle deliveries, publish messages, release locks and record a result: all of it or nothing. A problem says by part and index what stood in the way."},
		{method: get, path: "/v1/commit", op: "readCommit", needs: needsQueues, required: "id", out: wire.CommitReply{}, serve: serveResult,
			params:  []param{{"id", text, "of the commit"}},
			summary: "What a commit with this id did, as long as that is remembered."},
		{method: post, path: "/v1/detach", op: "detachConsumer", needs: needsQueues, in: wire.DetachRequest{}, serve: serveDetach,
			summary: "Say that a consumer is gone. Its deliveries stay leased."},
		{method: get, path: "/v1/messages", op: "peekMessages", needs: needsQueues, required: "queue", out: wire.MessagesReply{}, serve: serveMessages,
			params:  []param{{"queue", text, "where to look"}, {"after", text, "continue behind this seq"}, {"limit", number, "at most so many, 1 to 1000; 100 without it"}},
			summary: "Look at messages without leasing them."},
		{method: post, path: "/v1/purge", op: "purgeQueue", needs: needsQueues, in: wire.PurgeRequest{}, out: wire.PurgeReply{}, serve: servePurge,
			summary: "Drop all messages that are not in flight."},
		{method: post, path: "/v1/redrive", op: "redriveQueue", needs: needsQueues, in: wire.RedriveRequest{}, out: wire.RedriveReply{}, serve: serveRedrive,
			summary: "Move dead letters back."},

		{method: get, path: "/v1/capabilities", op: "capabilities", out: wire.Capabilities{}, serve: serveCapabilities,
			summary: "What this daemon's backends have and assume."},
		{method: get, path: "/v1/connect", op: "connect", upgrade: true, serve: serveConnect,
			summary: "Upgrade to the multiplexed session, a WebSocket with the subprotocol lockkeeper.v1: many requests at once on one connection, grants and messages pushed. docs/wire.md describes it."},
		{method: get, path: "/openapi.json", op: "openapi", out: map[string]any{}, serve: serveOpenAPI, summary: "This document."},
		{method: get, path: "/metrics", op: "metrics", media: "text/plain", serve: serveMetrics, summary: "Metrics for Prometheus."},
		{method: get, path: "/healthz", op: "healthz", public: true, media: "text/plain", serve: serveHealth, summary: "200 as long as the process answers."},
		{method: get, path: "/readyz", op: "readyz", public: true, media: "text/plain", serve: serveReady, summary: "200 if requests would be served now, else 503."},
	}
}
