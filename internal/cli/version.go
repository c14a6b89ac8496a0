package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says which build this is, from what the Go tool stamps into it.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func currentBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupServer,
		Short:   "Show the version of this program",
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			b := currentBuild()
			if a.json {
				return a.printJSON(b)
			}
			line := "lockkeeper " + b.Version
			if b.Revision != "" {
				line += fmt.Sprintf(" (%.12s of %s)", b.Revision, b.Time)
			}
			_, err := fmt.Fprintf(a.Out, "%s %s %s\n", line, b.Go, b.Platform)
			return err
		},
	}
}
