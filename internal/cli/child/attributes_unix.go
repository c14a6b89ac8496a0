//go:build unix && !linux

package child

import "syscall"

// There is no parent-death signal here: a command outlives a supervisor that
// was killed, and only the fencing token protects what it works on.
func attributes(ownGroup bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: ownGroup}
}
