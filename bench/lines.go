package bench

import (
	"strings"
	"testing"
	"time"
)

// How durable what was confirmed is.
const (
	synced    = "synced"
	inMemory  = "memory"
	notSynced = "not synced"
	sometimes = "synced at intervals, or consumed"
)

// Keys of the lines that others refer to.
const (
	floorSync   = "floor/sync/4KiB"
	floorLog    = "floor/log/64"
	floorBodies = "floor/sync/1MiB"

	redsync64       = "redsync/memory/locks/64"
	etcdLocks64     = "etcd/theirs/locks/64"
	etcdLocks1      = "etcd/theirs/locks/1"
	etcdTurns20     = "etcd/theirs/contention/20"
	rabbitFlow      = "rabbitmq/quorum/flow"
	processLocks64  = "process/file/locks/64"
	processConfirms = "process/file/publishers/64"
	processPublish  = "process/file/publish"
	processFlow     = "process/file/flow"
	processBodies   = "process/file/bodies"
	daemonLocks64   = "daemon/file/locks/64"
	daemonLocks1    = "daemon/file/locks/1"
	daemonFlow      = "daemon/file/flow"
	daemonBodies    = "daemon/file/bodies"
	daemonTurns20   = "daemon/file/contention/20"
	daemonTurns200  = "daemon/file/contention/200"
)

// How many at once, as people have them, and as the targets say.
const (
	many       = 64
	contenders = 20
	crowd      = 200
	publishers = 2
	consumers  = 2
)

// Spans of the whole form.
const (
	short   = time.Second
	usual   = 2 * time.Second
	flowing = 3 * time.Second
	turns   = 10 * time.Second
	crowded = 4 * time.Second
)

// Lines returns all lines, in the order in which a round measures them.
func Lines() []*Line {
	var all []*Line
	for _, part := range [][]*Line{floorLines(), redisLines(), etcdLines(), zooKeeperLines(), rabbitLines(), processLines(), daemonLines()} {
		all = append(all, part...)
	}
	return all
}

func floorLines() []*Line {
	const on = "bare log"
	return []*Line{
		{Key: floorSync, On: on, What: "4 KiB appended and synced, alone", Durability: synced, Span: short, Run: runSyncs(pageSize)},
		{Key: floorBodies, On: on, What: "1 MiB appended and synced, alone", Durability: synced, Span: usual, Run: runSyncs(largeBody)},
		{Key: floorLog, On: on, What: "commits of 256 B, 64 in flight", Durability: synced, Span: usual, Run: runLog(many, false)},
		{Key: "floor/log/1", On: on, What: "commits of 256 B, alone", Durability: synced, Span: short, Run: runLog(1, false)},
		{Key: "floor/recycled/64", On: on, What: "the same in a recycled file, 64 in flight", Durability: synced, Span: short, Base: floorLog, Run: runLog(many, true)},
	}
}

func redisLines() []*Line {
	lines := []*Line{
		{Key: redsync64, On: "redsync", Durability: notSynced, Run: runCycles(redsyncOnRedis, many)},
		{Key: "redsync/memory/locks/1", On: "redsync", Durability: notSynced, Run: runCycles(redsyncOnRedis, 1)},
		{Key: "redsync/synced/locks/64", On: "redsync", Durability: synced, Run: runCycles(redsyncOnSynced, many)},
		{Key: "redsync/synced/locks/1", On: "redsync", Durability: synced, Run: runCycles(redsyncOnSynced, 1)},
		{Key: "redsync/memory/contention/20", On: "redsync", Durability: notSynced, Run: runContention(redsyncOnRedis, contenders)},
		{Key: "redis/memory/locks/64", On: "ours on Redis", Durability: notSynced, Run: runCycles(oursOnRedis, many)},
		{Key: "redis/memory/locks/1", On: "ours on Redis", Durability: notSynced, Run: runCycles(oursOnRedis, 1)},
		{Key: "redis/memory/contention/20", On: "ours on Redis", Durability: notSynced, Run: runContention(oursOnRedis, contenders)},
	}
	return described(lines)
}

// zooKeeperLines are on three servers, which all sync on the one disk.
func zooKeeperLines() []*Line {
	const theirs, ours = "go-zookeeper's lock", "ours on ZooKeeper"
	return described([]*Line{
		{Key: "go-zookeeper/three/locks/64", On: theirs, Durability: synced, Run: runCycles(goZooKeeper, many)},
		{Key: "go-zookeeper/three/locks/1", On: theirs, Durability: synced, Run: runCycles(goZooKeeper, 1)},
		{Key: "go-zookeeper/three/contention/20", On: theirs, Durability: synced, Run: runContention(goZooKeeper, contenders)},
		{Key: "zookeeper/three/locks/64", On: ours, Durability: synced, Base: "go-zookeeper/three/locks/64", Run: runCycles(oursOnZooKeeper, many)},
		{Key: "zookeeper/three/locks/1", On: ours, Durability: synced, Base: "go-zookeeper/three/locks/1", Run: runCycles(oursOnZooKeeper, 1)},
		{Key: "zookeeper/three/contention/20", On: ours, Durability: synced, Base: "go-zookeeper/three/contention/20", Run: runContention(oursOnZooKeeper, contenders)},
	})
}

func rabbitLines() []*Line {
	return []*Line{
		{
			Key: rabbitFlow, On: "RabbitMQ", What: "256 B through a quorum queue", Durability: synced, Span: flowing,
			Run: runFlow(rabbitOf("quorum"), smallBody, consumers),
		},
		{
			Key: "rabbitmq/classic/flow", On: "RabbitMQ", What: "256 B through a durable classic queue", Durability: sometimes, Span: flowing,
			Run: runFlow(rabbitOf("classic"), smallBody, consumers),
		},
		{
			Key: "rabbitmq/quorum/bodies", On: "RabbitMQ", What: "1 MiB through a quorum queue", Durability: synced, Span: flowing, Base: floorBodies,
			Run: runFlow(rabbitOf("quorum"), largeBody, consumers),
		},
	}
}

func processLines() []*Line {
	onDisk := func(t testing.TB) string { t.Helper(); return newStore(t) }
	memory := func(testing.TB) string { return "mem://" }
	return described([]*Line{
		{Key: processLocks64, Base: floorLog, Run: runCycles(oursOnDisk, many)},
		{Key: "process/file/locks/1", Run: runCycles(oursOnDisk, 1)},
		{Key: "process/mem/locks/64", Run: runCycles(oursInMemory, many)},
		{Key: "process/mem/locks/1", Run: runCycles(oursInMemory, 1)},
		{Key: processConfirms, Base: floorLog, Run: runPublishers(onDisk, many)},
		{Key: "process/mem/publishers/64", Run: runPublishers(memory, many)},
		{Key: processPublish, Run: runFlow(queueOnDisk, smallBody, 0)},
		{Key: "process/mem/publish", Run: runFlow(queueInMemory, smallBody, 0)},
		{Key: processFlow, Base: rabbitFlow, Run: runFlow(queueOnDisk, smallBody, consumers)},
		{Key: "process/mem/flow", Base: rabbitFlow, Run: runFlow(queueInMemory, smallBody, consumers)},
		{Key: processBodies, Base: floorBodies, Run: runFlow(large(queueOnDisk), largeBody, consumers)},
	})
}

func daemonLines() []*Line {
	return described([]*Line{
		{Key: daemonLocks64, Base: redsync64, Run: runCycles(oursByDaemon, many)},
		{Key: daemonLocks1, Base: "redsync/memory/locks/1", Run: runCycles(oursByDaemon, 1)},
		{Key: "daemon/mem/locks/64", Base: redsync64, Run: runCycles(oursByMemoryDaemon, many)},
		{Key: "daemon/mem/locks/1", Base: "redsync/memory/locks/1", Run: runCycles(oursByMemoryDaemon, 1)},
		{Key: daemonFlow, Base: rabbitFlow, Run: runFlow(queueByDaemon, smallBody, consumers)},
		{Key: "daemon/mem/flow", Base: rabbitFlow, Run: runFlow(queueByMemoryDaemon, smallBody, consumers)},
		{Key: daemonBodies, Base: floorBodies, Run: runFlow(large(queueByDaemon), largeBody, consumers)},
		{Key: daemonTurns20, Base: "redsync/memory/contention/20", Run: runContention(oursByDaemon, contenders)},
		{Key: daemonTurns200, Run: runContention(oursByDaemon, crowd)},
	})
}

// described fills in what the keys say: where, on what store, and what.
func described(lines []*Line) []*Line {
	places := map[string]string{"process": "in process", "daemon": "daemon"}
	durable := map[string]string{"file": synced, "mem": inMemory}
	what := map[string]struct {
		text string
		span time.Duration
	}{
		"locks/64":       {"lock cycles, 64 goroutines", usual},
		"locks/1":        {"lock cycles, alone", short},
		"publishers/64":  {"64 publishers of one message of 256 B", usual},
		"publish":        {"publish 256 B, pipelined", usual},
		"flow":           {"256 B published, consumed, acked", flowing},
		"bodies":         {"1 MiB published, consumed, acked", flowing},
		"contention/20":  {"20 workers, one name, 1 ms each", turns},
		"contention/200": {"200 workers, one name, 1 ms each", crowded},
	}
	for _, l := range lines {
		parts := strings.SplitN(l.Key, "/", 3)
		w := what[parts[2]]
		l.What, l.Span = w.text, w.span
		if l.On == "" {
			l.On, l.Durability = places[parts[0]], durable[parts[1]]
		}
	}
	return lines
}
