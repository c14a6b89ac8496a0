package kafka

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

func TestURL(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]*target{
		"kafka://h":                                    {addrs: []string{"h:9092"}},
		"kafka://h/":                                   {addrs: []string{"h:9092"}},
		"kafka://a,b:1,[::1]":                          {addrs: []string{"a:9092", "b:1", "[::1]:9092"}},
		"kafka://u:p%2Fw@a":                            {addrs: []string{"a:9092"}, user: "u", password: "p/w", sasl: "plain"},
		"kafka://u@a?password_file=" + secret:          {addrs: []string{"a:9092"}, user: "u", password: "from file", sasl: "plain"},
		"kafka://u:p@a?sasl=scram-sha-512&tls=true":    {addrs: []string{"a:9092"}, user: "u", password: "p", sasl: "scram-sha-512", secure: true},
		"kafka://a?tls=false":                          {addrs: []string{"a:9092"}},
		"kafka://a?partitions=7&replication=2":         {addrs: []string{"a:9092"}, options: Options{Partitions: 7, Replication: 2}},
		"kafka://a?timeout=1s&publish_for=1m&prefix=x": {addrs: []string{"a:9092"}, options: Options{Timeout: time.Second, PublishFor: time.Minute, Prefix: "x"}},
		"kafka://a?session=20s&drain=1m":               {addrs: []string{"a:9092"}, options: Options{Session: 20 * time.Second, Drain: time.Minute}},
	} {
		got, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want.secure != (got.tls != nil) {
			t.Errorf("%s: TLS %v", raw, got.tls)
		}
		got.tls = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", raw, got)
		}
	}
}

func TestBadURL(t *testing.T) {
	for raw, field := range map[string]string{
		"kafka:h":                             "url",
		"redis://h":                           "url",
		"kafka://":                            "url",
		"kafka://h:0":                         "url",
		"kafka://h/topic":                     "url",
		"kafka://h#f":                         "url",
		"kafka://h?x=1":                       "x",
		"kafka://h?partitions=0":              "partitions",
		"kafka://h?partitions=1001":           "partitions",
		"kafka://h?replication=101":           "replication",
		"kafka://h?timeout=1ms":               "timeout",
		"kafka://h?timeout=1s&timeout=1s":     "timeout",
		"kafka://h?publish_for=2h":            "publish_for",
		"kafka://h?session=1h":                "session",
		"kafka://h?drain=-1s":                 "drain",
		"kafka://h?prefix=a%20b":              "prefix",
		"kafka://h?prefix=__x":                "prefix",
		"kafka://h?tls=maybe":                 "tls",
		"kafka://h?ca_file=x":                 "ca_file",
		"kafka://h?sasl=plain":                "sasl",
		"kafka://u@h?sasl=kerberos":           "sasl",
		"kafka://h?password_file=/nowhere/at": "password_file",
	} {
		_, err := parseURL(raw)
		var f *lease.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v, want an error about %s", raw, err, field)
		}
	}
}

func TestOptionsAtTheLimits(t *testing.T) {
	for field, o := range map[string]Options{
		"":           {Buffer: minBuffer, Span: minSpan, Drain: maxDrain, Session: minSession},
		"buffer":     {Buffer: minBuffer - 1},
		"span":       {Span: MaxSpan + 1},
		"partitions": {Partitions: MaxPartitions + 1},
		"session":    {Session: minSession - 1},
	} {
		_, err := o.withDefaults()
		var f *lease.FieldError
		if field == "" && err != nil || field != "" && (!errors.As(err, &f) || f.Field != field) {
			t.Errorf("%q: %v", field, err)
		}
	}
}
