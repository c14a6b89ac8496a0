package kafka

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockkeeper/lockkeeper/lease"
)

// MaxShareLease is how long the brokers lock a message of a share group for whom
// they give it to, and so the longest lease of one. It is the longest that
// brokers allow that were left at their defaults.
const MaxShareLease = time.Minute

// Of share groups.
const (
	usualDeliveryLimit = 5 // of brokers that were left at their defaults
	leastDeliveryLimit = 3 // one delivery, and two to begin a message anew
)

// shareNeeds are the requests that share groups take, with their versions in
// Kafka 4.2, the first that can renew a lock.
var shareNeeds = []struct {
	key     kmsg.Key
	version int16
}{
	{kmsg.ShareGroupHeartbeat, 1}, {kmsg.ShareFetch, 2}, {kmsg.ShareAcknowledge, 2},
}

// checkShare is lease.ErrUnsupported if a broker's answer says that it has no
// share groups.
func checkShare(broker int32, r *kmsg.ApiVersionsResponse) error {
	offered := map[int16]int16{}
	for _, k := range r.ApiKeys {
		offered[k.ApiKey] = k.MaxVersion
	}
	for _, need := range shareNeeds {
		if most, ok := offered[need.key.Int16()]; !ok || most < need.version {
			return fmt.Errorf("broker %d has no share groups (%s), which Kafka has from 4.2 on: %w", broker, need.key.Name(), lease.ErrUnsupported)
		}
	}
	for i := range r.FinalizedFeatures {
		if f := &r.FinalizedFeatures[i]; f.Name == "share.version" && f.MaxVersionLevel > 0 {
			return nil
		}
	}
	return fmt.Errorf("share groups are not turned on at broker %d (feature share.version): %w", broker, lease.ErrUnsupported)
}

// needShare is lease.ErrUnsupported unless all brokers have share groups.
func (c *conn) needShare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "lockkeeper", "1"
	for _, shard := range c.cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return classify(shard.Err, lease.ErrUnavailable)
		}
		resp, ok := shard.Resp.(*kmsg.ApiVersionsResponse)
		if !ok {
			continue
		}
		if err := checkShare(shard.Meta.NodeID, resp); err != nil {
			return err
		}
	}
	return nil
}

// Settings of a share group.
const (
	settingReset     = "share.auto.offset.reset"
	settingIsolation = "share.isolation.level"
	settingLock      = "share.record.lock.duration.ms"
	settingLimit     = "share.delivery.count.limit" // from Kafka 4.3 on
	brokerLimit      = "group.share.delivery.count.limit"
)

// prepareShare makes the settings of a group before anybody is in it: by itself
// it would begin at the end, and read what was aborted.
func (c *conn) prepareShare(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	limit, err := c.deliveryLimit(ctx, group)
	if err != nil {
		return classify(err, lease.ErrUnavailable)
	}
	if limit < leastDeliveryLimit {
		return fmt.Errorf("the brokers forget a message after %d deliveries, %d are needed (%s): %w", limit, leastDeliveryLimit, brokerLimit, lease.ErrUnsupported)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for _, x := range [...]struct{ name, value string }{
		{settingReset, "earliest"}, {settingIsolation, "read_committed"}, {settingLock, strconv.FormatInt(MaxShareLease.Milliseconds(), 10)},
	} {
		cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		cfg.Name, cfg.Value = x.name, kmsg.StringPtr(x.value)
		resource.Configs = append(resource.Configs, cfg)
	}
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return classify(err, lease.ErrUnknown)
	}
	for i := range resp.Resources {
		if err := kerr.ErrorForCode(resp.Resources[i].ErrorCode); err != nil {
			return classify(fmt.Errorf("the settings of its share group: %w: %s", err, text(resp.Resources[i].ErrorMessage)), lease.ErrUnavailable)
		}
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// deliveryLimit returns after how many deliveries the brokers forget a message
// of a group. Who may not know takes what is usual.
func (c *conn) deliveryLimit(ctx context.Context, group string) (int, error) {
	if n, err := c.groupLimit(ctx, group); n > 0 || err != nil {
		return n, err
	}
	brokers, err := c.adm.ListBrokers(ctx)
	if err != nil {
		return 0, err
	}
	least := 0
	for _, b := range brokers {
		rs, err := c.adm.DescribeBrokerConfigs(ctx, b.NodeID)
		if err != nil {
			return 0, err
		}
		if n := limitIn(rs); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if least == 0 {
		return usualDeliveryLimit, nil
	}
	return least, nil
}

// groupLimit is what the group itself has for it, 0 if that is not to be known.
func (c *conn) groupLimit(ctx context.Context, group string) (int, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeGroupConfig, group, []string{settingLimit}
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return 0, err
	}
	for i := range resp.Resources {
		for j := range resp.Resources[i].Configs {
			if cfg := &resp.Resources[i].Configs[j]; cfg.Name == settingLimit {
				n, _ := strconv.Atoi(text(cfg.Value))
				return n, nil
			}
		}
	}
	return 0, nil
}

// limitIn returns the limit among the settings of a broker, 0 if it is not there.
func limitIn(rs kadm.ResourceConfigs) int {
	for _, r := range rs {
		for _, cfg := range r.Configs {
			if n, err := strconv.Atoi(cfg.MaybeValue()); err == nil && cfg.Key == brokerLimit {
				return n
			}
		}
	}
	return 0
}
