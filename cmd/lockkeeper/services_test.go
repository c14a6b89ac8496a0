package main

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const servicesMark = "<!-- services -->\n```sh\n"

// The README's lines for other backends work as pasted beside `make services`,
// which leaves nothing behind when it is interrupted.
func TestServices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "services")
	if out, err := exec.Command("go", "build", "-o", program, "../../internal/realserver/services").CombinedOutput(); err != nil {
		t.Fatalf("building services: %v\n%s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := ln.Addr().String()
	ln.Close()
	env := filepath.Join(dir, "bin", "services.env")
	cmd := exec.Command(program, "-env", env, "-lockkeeper", binary, "-listen", listen)
	p := begin(t, cmd)
	eventually(t, "the services run", func() bool {
		select {
		case <-p.done:
			t.Fatalf("they have ended: %s%s", p.out.String(), p.err.String())
		default:
		}
		_, err := os.Stat(env)
		return err == nil
	})
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), servicesMark)
	script, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no block for the services")
	}
	shell := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	r := finish(t, shell)
	if r.status != 0 || strings.Count(r.out, "held on ") != strings.Count(script, "held on ") {
		t.Errorf("status %d\n%s%s", r.status, r.out, r.err)
	}
	addrs := addresses(t, env)
	p.signal(syscall.SIGINT)
	if r := p.wait(); r.status != 0 {
		t.Errorf("status %d after an interrupt\n%s%s", r.status, r.out, r.err)
	}
	for _, addr := range addrs {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("something listens at %s still", addr)
		}
	}
	if _, err := os.Stat(env); err == nil {
		t.Error("the file with their URLs is there still")
	}
}

// addresses returns those of the URLs in a file of variables.
func addresses(t *testing.T, env string) []string {
	t.Helper()
	file, err := os.Open(env)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var addrs []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		_, raw, _ := strings.Cut(lines.Text(), "=")
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		addrs = append(addrs, u.Host)
	}
	if len(addrs) < 2 {
		t.Fatalf("there are %d URLs", len(addrs))
	}
	return addrs
}
