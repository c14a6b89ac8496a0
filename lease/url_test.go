package lease

import "testing"

func TestPublicURL(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:7420":                     "http://127.0.0.1:7420",
		"https://user:pass@h:1/base?token=s3cret#f": "https://h:1/base",
		"file:///var/lib/lockkeeper?min_ttl=1s":     "file:///var/lib/lockkeeper",
		"redis://:pass@a:1,b:2/0":                   "redis://a:1,b:2/0",
		"http://user:pass@h h/":                     "a malformed URL",
		"mem://":                                    "mem:",
	} {
		if got := PublicURL(raw); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}
