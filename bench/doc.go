// Package bench measures Lockkeeper side by side with what people use today,
// and with what the disk can do, in one run on one machine:
//
//	make bench                          # the whole, about fifteen minutes
//	make bench LINES='locks|floor'      # some lines of it
//	cd bench && go test .               # a short form that proves that it works
//
// It is a module of its own, so that the code of others stays out of ours.
//
// # How it measures
//
// A Line is one thing that is measured. All lines are measured once in each of
// several rounds, the floor first, then the others' servers, then ours, so
// that a machine that is slow for a while is slow for all. A result is the
// median of the rounds, with the least and the most of them beside it. A ratio
// is taken within each round, and the median is that of the ratios.
//
// The floor is what no store that syncs can be faster than, and is written
// here by hand: a log to which many append and whose syncs they share.
//
// Each line says how durable it is. Stores and logs are files below the
// directory for temporary files (TMPDIR), all on one file system. Lines begin
// with an empty store or queue of their own. A RabbitMQ whose turn it is not is
// stopped (SIGSTOP), for it is never quite idle; the Redis servers are.
package bench
