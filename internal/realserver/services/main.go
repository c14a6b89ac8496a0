// Services starts one of each server that locks and queues can be kept on, for
// a person to try: on free ports of the loopback, with throw-away data. It
// prints their URLs, and writes them to a file for a shell to read. Ctrl-C ends
// it and all of them.
//
// It is what `make services` runs. With names of servers as arguments it starts
// only those. A server that is added here has its lines in README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
)

// service is one kind of server.
type service struct {
	name, variable string
	start          func(t testing.TB) (url string)
}

// services are all of them, quick ones first.
var services = []service{
	{"redis", "REDIS_URL", func(t testing.TB) string { t.Helper(); return "redis://" + realserver.StartRedis(t).Addr() }},
	{"etcd", "ETCD_URL", func(t testing.TB) string { t.Helper(); return "etcd://" + realserver.StartEtcd(t).Addr() }},
	{"zookeeper", "ZOOKEEPER_URL", func(t testing.TB) string { t.Helper(); return "zk://" + realserver.StartZooKeeper(t).Addr() }},
	{"rabbitmq", "RABBITMQ_URL", func(t testing.TB) string {
		t.Helper()
		return "amqp://guest:guest@" + realserver.StartRabbitMQ(t).Addr()
	}},
	{"kafka", "KAFKA_URL", func(t testing.TB) string { t.Helper(); return "kafka://" + realserver.StartKafka(t).Addr() }},
}

func main() {
	envFile := flag.String("env", "", "file to write the URLs to, as variables of a shell")
	binary := flag.String("lockkeeper", "", "path of lockkeeper, which is started as well")
	listen := flag.String("listen", "127.0.0.1:7420", "where it listens")
	flag.Parse()
	all := services
	if *binary != "" {
		own := service{"lockkeeper", "LOCKKEEPER_URL", func(t testing.TB) string { t.Helper(); return startDaemon(t, *binary, *listen) }}
		all = append([]service{own}, all...)
	}
	if err := run(os.Stdout, all, flag.Args(), *envFile); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// run starts the services that are named, or all.
func run(out io.Writer, all []service, names []string, envFile string) error {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s service) bool { return s.name == name }) {
			return fmt.Errorf("there is no %q", name)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := realserver.Standalone(ctx, func(t testing.TB) {
		t.Helper()
		var env strings.Builder
		for _, s := range all {
			if len(names) > 0 && !slices.Contains(names, s.name) {
				continue
			}
			line := fmt.Sprintf("export %s=%s\n", s.variable, s.start(t))
			env.WriteString(line)
			_, _ = io.WriteString(out, line)
		}
		if envFile == "" {
			return
		}
		if err := writeEnv(envFile, env.String()); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(out, "\nIn another terminal:  . %s\nThen, for example:    bin/lockkeeper doctor \"$REDIS_URL\"\nCtrl-C ends them all.\n", envFile)
	})
	if ctx.Err() != nil {
		// What was cut off while it started is no failure.
		err = nil
	}
	if envFile != "" {
		if gone := os.Remove(envFile); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// writeEnv writes the whole file or nothing.
func writeEnv(path, text string) error {
	draft := path + ".new"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // like any directory of a build
		return err
	}
	if err := os.WriteFile(draft, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

// startDaemon starts a lockkeeper with its data in memory.
func startDaemon(t testing.TB, binary, listen string) string {
	t.Helper()
	path, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listen
	dir := t.TempDir()
	realserver.Start(t, realserver.Spec{
		Name: "lockkeeper", Addr: listen, Dir: dir,
		Command: []string{path, "serve", "--listen", listen, "--data", filepath.Join(dir, "data")},
		Probe: func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", http.NoBody)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return errors.New(answer.Status)
			}
			return nil
		},
	})
	return url
}
