package cli

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/drivers/remote"
)

// askDaemon asks for version and time, which are not part of the portable API.
func (d *diagnosis) askDaemon(ctx context.Context, url string) error {
	sent := time.Now()
	client, err := remote.Open(ctx, url)
	if err != nil {
		return err
	}
	took := time.Since(sent)
	d.Version = client.Version()
	// The server read its clock at some time in between.
	difference := float64(client.ServerTime().Sub(sent.Add(took/2))) / float64(time.Millisecond)
	d.ClockMS = &difference
	d.ClockWithinMS = float64(took/2) / float64(time.Millisecond)
	return nil
}
