package redis

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// What the loss of a node costs hangs on how the client finds the servers.
func TestCapsSayHowServersAreFound(t *testing.T) {
	t.Parallel()
	sentinel := goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"127.0.0.1:1"}})
	single := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:1"})
	cluster := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	for want, client := range map[string]goredis.UniversalClient{nodeSentinel: sentinel, nodeSingle: single, nodeCluster: cluster} {
		caps := capsOf(client)
		if caps.Assumes.Node != want {
			t.Errorf("%T: %s", client, caps.Assumes.Node)
		}
		if err := caps.Assumes.Validate(); err != nil {
			t.Errorf("%T: %v", client, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}
