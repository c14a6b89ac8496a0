package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the processes that a measurement starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "process" {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Each measurement runs to its end with small numbers: nothing that was
// published is lost over a kill, comes twice, or is left over; no lease is
// lost; duplicates are known.
func TestMeasurements(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"backlog -n 20000",
		"delayed -n 15000",
		"dedup -n 15000",
		"idle -queues 50 -locks 200 -for 1s",
		"leases -n 200 -ttl 3s -for 3s",
		"steady -for 2s -every 200ms",
	} {
		t.Run(strings.Fields(args)[0], func(t *testing.T) {
			t.Parallel()
			if err := run(t.Context(), append(strings.Fields(args), "-dir", t.TempDir())); err != nil {
				t.Error(err)
			}
		})
	}
}

// A plot is well-formed, and samples that were written can be read again.
func TestPlotOfSamples(t *testing.T) {
	var all []sample
	for i := range 1000 {
		all = append(all, sample{At: float64(i), Rate: 10_000 + float64(i%7), Disk: 100, Goroutines: 15})
	}
	dir := t.TempDir()
	csv, svg := filepath.Join(dir, "a.csv"), filepath.Join(dir, "a.svg")
	if err := writeCSV(csv, all); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"plot", "-csv", csv, "-svg", svg, "-dir", dir}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if want := len(columns) - 1; lines != want {
		t.Errorf("the plot has %d lines, want %d", lines, want)
	}
}

// What grows over a run is found, each by its name; so is a rate that falls.
func TestJudgeFindsGrowth(t *testing.T) {
	for _, col := range columns {
		var all []sample
		for i := range 600 {
			s := sample{At: float64(i), Rate: 1000, Receive50: 1, Receive99: 1, Seek: 1, Disk: 100, RSS: 100, Heap: 10, Goroutines: 10}
			if col.name == "rate" {
				s.Rate -= float64(i)
			} else if col.flat {
				*col.of(&s) *= 1 + float64(i)/300
			}
			all = append(all, s)
		}
		err := judge(all)
		if col.flat != (err != nil) || err != nil && !strings.Contains(err.Error(), col.name+" is not flat") {
			t.Errorf("%s: %v", col.name, err)
		}
	}
}
