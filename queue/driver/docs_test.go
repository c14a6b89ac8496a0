package driver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// documented are the limits of docs/queues.md.
var documented = map[string]int64{
	"MaxName": MaxName, "MaxKey": MaxKey, "MaxID": MaxID, "MaxOrderKey": MaxOrderKey, "MaxConsumer": MaxConsumer,
	"MaxProperty": MaxProperty, "MaxHeaders": MaxHeaders, "MaxHeaderBytes": MaxHeaderBytes, "MaxHeaderDepth": MaxHeaderDepth,
	"MaxBody": MaxBody, "MaxBatch": MaxBatch, "MaxBatchBytes": MaxBatchBytes, "MaxReceive": MaxReceive, "MaxAhead": MaxAhead,
	"MaxReceiveBytes": MaxReceiveBytes, "MaxWait": int64(MaxWait), "MaxReason": MaxReason, "MaxPriority": MaxPriority,
	"MaxDelay": int64(MaxDelay), "MaxDeliveryLimit": MaxDeliveryLimit, "MaxDedupWindow": int64(MaxDedupWindow),
	"MinExpires": int64(MinExpires), "MaxRetentionAge": int64(MaxRetentionAge), "MaxQueueLength": MaxQueueLength,
	"MaxSchedules": MaxSchedules, "MaxScheduleName": MaxScheduleName, "MaxCron": MaxCron,
	"MaxScheduleBody": MaxScheduleBody, "MaxMissedTicks": MaxMissedTicks,
	"MaxOffsets": MaxOffsets, "MaxList": MaxList, "DefaultList": DefaultList, "MaxPeek": MaxPeek, "MaxRedrive": MaxRedrive,
	"MaxDeclare": MaxDeclare, "MaxBindingsPerQueue": MaxBindingsPerQueue, "MaxBindingsPerExchange": MaxBindingsPerExchange,
	"DefaultLease": int64(DefaultLease), "DefaultDeliveryLimit": DefaultDeliveryLimit,
	"DefaultBackoffMin": int64(DefaultBackoffMin), "DefaultBackoffMax": int64(DefaultBackoffMax),
}

// units of the numbers in the page, in what the constants count.
var units = map[string]int64{
	"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20,
	"s": int64(time.Second), "min": int64(time.Minute), "days": 24 * int64(time.Hour),
}

// The page of queues names every limit of limits.go, with its value.
func TestLimitsOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/queues.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\|.*\\| (`(?:Max|Min|Default)[A-Za-z`, ]*) \\| (.*) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		names, values := strings.Split(strings.ReplaceAll(m[1], "`", ""), ", "), strings.Split(m[2], ", ")
		if len(names) != len(values) {
			t.Errorf("%d names and %d values in %s", len(names), len(values), m[0])
			continue
		}
		for i, name := range names {
			said[name] = true
			number, unit, _ := strings.Cut(values[i], " ")
			n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
			want, known := documented[name]
			if err != nil || !known || units[unit] == 0 || n*units[unit] != want {
				t.Errorf("the page says %s is %s; it is %d", name, values[i], want)
			}
		}
	}
	for _, name := range limitNames(t) {
		if !said[name] {
			t.Errorf("the page does not say what %s is", name)
		}
	}
}

// limitNames returns the exported constants of limits.go.
func limitNames(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "limits.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
