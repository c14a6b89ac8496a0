package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where results were measured, and of what.
type Machine struct {
	Date       string `json:"date"`
	Processor  string `json:"processor"`
	Cores      int    `json:"cores"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	Commit     string `json:"commit"`
	Redis      string `json:"redis,omitempty"`
	RabbitMQ   string `json:"rabbitmq,omitempty"`
}

func (m *Machine) String() string {
	text := fmt.Sprintf("%s, %d × %s, Linux %s, %s, %s, commit %s", m.Date, m.Cores, m.Processor, m.Kernel, m.FileSystem, m.Go, m.Commit)
	if m.Redis != "" {
		text += ", Redis " + m.Redis
	}
	if m.RabbitMQ != "" {
		text += ", RabbitMQ " + m.RabbitMQ
	}
	return text
}

// thisMachine describes the machine. What cannot be found out stays empty.
func thisMachine(ctx context.Context, dir string) Machine {
	m := Machine{
		Date: time.Now().Format(time.DateOnly), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Processor: "unknown processor", FileSystem: fileSystem(dir),
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Processor = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.Commit = said(ctx, "git", "rev-parse", "--short", "HEAD")
	if said(ctx, "git", "status", "--porcelain", "--untracked-files=no") != "" {
		m.Commit += " with changes"
	}
	return m
}

// Numbers of file systems, from statfs(2).
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs, which syncs nothing", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown file system"
	}
	if name, ok := fileSystems[s.Type]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", s.Type)
}

// said is what a command prints, "" if it fails.
func said(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output() //nolint:gosec // our own arguments
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
