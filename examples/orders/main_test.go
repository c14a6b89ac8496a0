package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for name, url := range map[string]string{
		"memory": "mem://orders-test",
		"file":   "file://" + filepath.Join(t.TempDir(), "store"),
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := run(context.Background(), url, 30, &out); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			text := out.String()
			if !strings.Contains(text, "the books balance") {
				t.Errorf("no good end:\n%s", text)
			}
			// 60 are asked for and 30 are there: some are shipped, some not.
			for _, outcome := range []string{"order.shipped", "order.refused"} {
				if !strings.Contains(text, outcome) {
					t.Errorf("no %s among the outcomes:\n%s", outcome, text)
				}
			}
		})
	}
}
