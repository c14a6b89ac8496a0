// Package redis is the driver for locks on Redis: one server, a primary that
// Sentinels watch, or a Redis Cluster.
package redis
