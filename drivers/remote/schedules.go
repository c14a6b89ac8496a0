package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func (c *queueConn) PutSchedule(ctx context.Context, s *queuedriver.Schedule) error {
	own := *s
	if err := own.Validate(); err != nil {
		return err
	}
	return c.call(ctx, request{method: http.MethodPut, path: "/v1/schedules"}, wire.NewSchedule(&own), nil)
}

func (c *queueConn) DeleteSchedule(ctx context.Context, name string) error {
	if err := queuedriver.ValidateScheduleName("name", name); err != nil {
		return err
	}
	return c.call(ctx, request{method: http.MethodDelete, path: "/v1/schedules", query: url.Values{"name": {name}}}, nil, nil)
}

func (c *queueConn) Schedules(ctx context.Context, r *queuedriver.SchedulesRequest) ([]queuedriver.ScheduleInfo, error) {
	var out wire.SchedulesReply
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/schedules", query: listQuery(r.Name, r.Prefix, r.After, r.Max), reads: true}, nil, &out); err != nil {
		return nil, err
	}
	infos := make([]queuedriver.ScheduleInfo, len(out.Schedules))
	for i := range out.Schedules {
		var err error
		if infos[i], err = out.Schedules[i].Driver(); err != nil {
			return nil, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnavailable, err)
		}
	}
	return infos, nil
}
