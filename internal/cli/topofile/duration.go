package topofile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Duration is a time.Duration that is written as people do: "30s", "1h30m",
// "7d".
type Duration time.Duration

// Duration returns d.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// UnmarshalText reads a duration as ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// ParseDuration reads what time.ParseDuration reads, and whole days ("7d")
// besides.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err == nil && n >= 0 && n <= math.MaxInt64/int64(day) {
			return time.Duration(n) * day, nil
		}
	} else if v, err := time.ParseDuration(s); err == nil {
		return v, nil
	}
	return 0, fmt.Errorf("%q is not a duration: write it like 500ms, 30s, 5m, 24h or 7d", s)
}
