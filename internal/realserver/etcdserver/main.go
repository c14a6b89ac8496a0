// Command etcdserver is one member of an etcd cluster, for tests. It runs until
// it gets a signal. It is a module of its own, so that a server's dependencies
// stay out of those of its clients.
package main

import (
	"flag"
	"log"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Milliseconds between heartbeats, and without one before an election: etcd's
// own defaults.
const (
	tick     = 100
	election = 1000
)

func main() {
	name := flag.String("name", "m1", "the member's name")
	dir := flag.String("dir", "", "directory of its data")
	client := flag.String("client", "", "URL for clients")
	peer := flag.String("peer", "", "URL for the other members")
	cluster := flag.String("cluster", "", "all members, as NAME=URL,NAME=URL; empty: it is alone")
	cert := flag.String("cert", "", "certificate for clients")
	key := flag.String("key", "", "key of the certificate")
	flag.Parse()

	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = *name, *dir
	cfg.LogLevel, cfg.LogOutputs = "warn", []string{"stderr"}
	cfg.TickMs, cfg.ElectionMs = tick, election
	cfg.ListenClientUrls = urls(*client)
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = urls(*peer)
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.ClientTLSInfo = transport.TLSInfo{CertFile: *cert, KeyFile: *key}
	cfg.InitialCluster = *cluster
	if *cluster == "" {
		cfg.InitialCluster = *name + "=" + *peer
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		log.Fatal(err)
	}
	stop, cut := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(cut, syscall.SIGUSR1)
	for {
		select {
		case <-cut:
			obey(e, filepath.Join(*dir, "..", cutFile))
			continue
		case <-stop:
		case err := <-e.Err():
			log.Print(err)
		}
		e.Close()
		return
	}
}

// cutFile is beside the member's data. At SIGUSR1 the member reads it, and from
// then on sends nothing to the members that it names, one a line.
const cutFile = "cut"

func obey(e *embed.Etcd, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	names := strings.Fields(string(text))
	for _, m := range e.Server.Cluster().Members() {
		if m.ID == e.Server.MemberID() {
			continue
		}
		if slices.Contains(names, m.Name) {
			e.Server.CutPeer(m.ID)
		} else {
			e.Server.MendPeer(m.ID)
		}
	}
}

func urls(s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		log.Fatal(err)
	}
	return []url.URL{*u}
}
