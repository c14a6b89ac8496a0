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

// servicesMark stands before each block of README.md that is for one kind of
// server of `make services`; its name and " -->" follow.
const servicesMark = "<!-- services "

// The README's lines for other backends work as pasted beside `make services`,
// which leaves nothing behind when it is interrupted.
func TestServices(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "services")
	if out, err := exec.Command("go", "build", "-o", program, "../../internal/realserver/services").CombinedOutput(); err != nil {
		t.Fatalf("building services: %v\n%s", err, out)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(readme), servicesMark)
	if len(parts) < 2 {
		t.Fatal("README.md has no blocks for the services")
	}
	for _, part := range parts[1:] {
		name, rest, marked := strings.Cut(part, " -->\n```sh\n")
		script, _, closed := strings.Cut(rest, "```\n")
		if !marked || !closed {
			t.Fatalf("a block of %q is not marked or not closed", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tryService(t, program, name, script)
		})
	}
}

// tryService runs a script beside one kind of server and a daemon.
func tryService(t *testing.T, program, name, script string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := ln.Addr().String()
	ln.Close()
	env := filepath.Join(t.TempDir(), "bin", "services.env")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(program, "-env", env, "-lockkeeper", binary, "-listen", listen, name, "lockkeeper")
	cmd.Stdout = w
	p := begin(t, cmd)
	w.Close()
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			t.Fatalf("it has ended: %s", p.wait().err)
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	shell := exec.Command("bash", "-eu", "-o", "pipefail", "-c", ". "+env+"\n"+script)
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	done := finish(t, shell)
	if done.status != 0 || strings.TrimSpace(done.out) == "" {
		t.Errorf("status %d\n%s%s", done.status, done.out, done.err)
	}
	addrs := addresses(t, env)
	p.signal(syscall.SIGINT)
	if end := p.wait(); end.status != 0 {
		t.Errorf("status %d after an interrupt\n%s", end.status, end.err)
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
