package bench

// Target is a figure that is to be reached: of one line, or of one line in
// relation to another.
type Target struct {
	What         string
	Line, Figure string
	Per          string // Key of the line to divide by; "": none
	AtMost       bool   // rather than at least
	Limit        float64
	Unit         string
}

// Targets returns all targets.
func Targets() []Target {
	const times = "times"
	return []Target{
		{What: "in process: lock cycles, 64 goroutines, by the commits of the bare log", Line: processLocks64, Figure: Rate, Per: floorLog, Limit: 0.4, Unit: times},
		{What: "in process: 64 publishers of one message, by the commits of the bare log", Line: processConfirms, Figure: Rate, Per: floorLog, Limit: 0.5, Unit: times},
		{What: "in process: publish 256 B, pipelined", Line: processPublish, Figure: Rate, Limit: 400_000, Unit: "/s"},
		{What: "in process: publish, consume, ack 256 B", Line: processFlow, Figure: Rate, Limit: 150_000, Unit: "/s"},
		{What: "in process: 1 MiB published and consumed, by what the disk syncs", Line: processBodies, Figure: MiBRate, Per: floorBodies, Limit: 0.5, Unit: times},
		{What: "daemon: lock cycles, 64 goroutines, by redsync on a Redis that does not sync", Line: daemonLocks64, Figure: Rate, Per: redsync64, Limit: 2, Unit: times},
		{What: "daemon: p50 of a lone lock cycle, by that of a lone sync of 4 KiB", Line: daemonLocks1, Figure: P50, Per: floorSync, AtMost: true, Limit: 4, Unit: times},
		{What: "daemon: publish, consume, ack 256 B", Line: daemonFlow, Figure: Rate, Limit: 100_000, Unit: "/s"},
		{What: "daemon: publish, consume, ack 256 B, by RabbitMQ's quorum queue", Line: daemonFlow, Figure: Rate, Per: rabbitFlow, Limit: 3, Unit: times},
		{What: "daemon: 20 workers on one name, p99 of the wait", Line: daemonTurns20, Figure: P99, AtMost: true, Limit: 31_000, Unit: "time"},
		{What: "daemon: 20 workers on one name, least served by most served", Line: daemonTurns20, Figure: LeastMost, Limit: 0.95},
		{What: "daemon: 200 workers on one name, p99 of the gap at a hand-over", Line: daemonTurns200, Figure: GapP99, AtMost: true, Limit: 2_000, Unit: "time"},
		{What: "daemon: 1 MiB published and consumed, by what the disk syncs", Line: daemonBodies, Figure: MiBRate, Per: floorBodies, Limit: 0.5, Unit: times},
	}
}

// measure returns what was measured for a target; false if it was not.
func (t *Target) measure(r *Results) (Summary, bool) {
	l := r.line(t.Line)
	if l == nil {
		return Summary{}, false
	}
	values := l.Figures[t.Figure]
	if t.Per != "" {
		per := r.line(t.Per)
		if per == nil {
			return Summary{}, false
		}
		values = ratios(values, per.Figures[t.Figure])
	}
	return summarize(values), len(values) > 0
}

// met reports whether what was measured reaches the target.
func (t *Target) met(s Summary) bool {
	if t.AtMost {
		return s.Median <= t.Limit
	}
	return s.Median >= t.Limit
}
