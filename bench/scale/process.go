package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one that plays a role. What it reports is read in order.
type process struct {
	cmd *exec.Cmd
	in  io.Closer // closed: it is to come to an end
	out *json.Decoder
}

// usage is what a process has used when it has ended.
type usage struct {
	RSS int64 // bytes, the most that it had
	CPU time.Duration
}

func start(ctx context.Context, role string, c *config) (*process, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "process", role, string(text)) //nolint:gosec // this program itself
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// next reads the next report.
func (p *process) next(v any) error {
	if err := p.out.Decode(v); err != nil {
		return errors.Join(fmt.Errorf("no report: %w", err), p.kill())
	}
	return nil
}

// end lets the process come to its end and returns what it has used.
func (p *process) end() (usage, error) {
	_ = p.in.Close() // it may have been told before
	err := p.cmd.Wait()
	return p.usage(), err
}

// kill ends it at once, with SIGKILL.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState == nil {
		return err
	}
	return nil
}

func (p *process) usage() usage {
	s := p.cmd.ProcessState
	if s == nil {
		return usage{}
	}
	u := usage{CPU: s.UserTime() + s.SystemTime()}
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		u.RSS = r.Maxrss << 10
	}
	return u
}

// report runs a role to its end, for its only report.
func only[T any](ctx context.Context, role string, c *config) (v T, u usage, err error) {
	p, err := start(ctx, role, c)
	if err != nil {
		return v, u, err
	}
	if err := p.next(&v); err != nil {
		return v, u, err
	}
	u, err = p.end()
	return v, u, err
}

// untilEnd waits for the parent to say that it is the end.
func untilEnd(ctx context.Context) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// clockTick is the unit of times in /proc: USER_HZ, 100 wherever Go runs.
const clockTick = 10 * time.Millisecond

// cpuOf is the processor time that a process has used so far.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name
	fields := strings.Fields(rest)
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("/proc/%d/stat is %q", pid, text)
	}
	u, err1 := strconv.Atoi(fields[user])
	s, err2 := strconv.Atoi(fields[system])
	return time.Duration(u+s) * clockTick, errors.Join(err1, err2)
}

// rssOf is the memory of a process, in bytes.
func rssOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm is %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// diskOf is how much the files under a directory take.
func diskOf(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += s.Blocks * 512
		}
		return nil
	})
	return sum, err
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
