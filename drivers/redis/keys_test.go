package redis

import (
	"slices"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// TestKeysOfNameShareSlot asks a Cluster for the slots: whatever a name looks
// like, all its keys are in one, and the tag that it has says in which.
func TestKeysOfNameShareSlot(t *testing.T) {
	node := realserver.SharedRedisCluster(t).Nodes[0]
	ctx := drivertest.Bounded(t)
	slot := func(key string) string { return mustRedis(ctx, t, node, "CLUSTER", "KEYSLOT", key) }
	for _, name := range hostileNames {
		keys := keysOf(DefaultPrefix, name)
		for _, key := range keys {
			if slot(key) != slot(keys[0]) {
				t.Errorf("%q: %q is in another slot than %q", name, key, keys[0])
			}
		}
		if tag := tagOf(name); tag != name && slot(keys[0]) != slot(tag) && !strings.ContainsAny(tag, "%}") {
			t.Errorf("%q is not in the slot of its tag %q", name, tag)
		}
	}
}

var hostileNames = []string{
	"a", "}", "}{", "{", "{}", "{}a", "a{}b{c}", "{a}", "{a}b", "b{a}", "{a}{b}", "a}h", "a}h:b", "}h", "%", "%7D", "%25", "{%7D}", "h", ":", "{a}:", "a:{b",
}

func TestKeysTellNamesApart(t *testing.T) {
	seen := map[string]string{}
	for _, name := range hostileNames {
		for _, key := range keysOf("p", name) {
			if other, ok := seen[key]; ok {
				t.Errorf("%q and %q share the key %q", name, other, key)
			}
			seen[key] = name
		}
	}
}

func FuzzKeys(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name, "other"+name)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ka, kb := keysOf("p:", a), keysOf("p:", b)
		if name, ok := nameOf("p:", ka[0]); !ok || name != a {
			t.Errorf("%q became %q, %v", a, name, ok)
		}
		if a != b && slices.ContainsFunc(ka[:], func(k string) bool { return slices.Contains(kb[:], k) }) {
			t.Errorf("%q and %q share a key", a, b)
		}
		_, rest, _ := strings.Cut(ka[0], "{")
		if tag, _, ok := strings.Cut(rest, "}"); !ok || a != "" && tag == "" {
			t.Errorf("%q has the key %q without a tag", a, ka[0])
		}
		nameOf("p:", b) // whatever lies there
	})
}
