package realserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// jarsOf returns a directory with the jars of some artifacts, "GROUP:NAME:VERSION",
// and of what they need. Maven fetches them once; they are kept for later runs
// in the user's cache.
func jarsOf(t testing.TB, name string, artifacts ...string) (string, error) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	all := filepath.Join(cache, "lockkeeper", "jars")
	dir := filepath.Join(all, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	mvn := need(t, "mvn", "maven")
	unlock := lockInstalls(t)
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // another test binary was faster
	}
	if err := os.MkdirAll(all, 0o700); err != nil {
		return "", err
	}
	place, err := os.MkdirTemp(all, "fetch-") //nolint:usetesting // it is moved to a place beside it
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(place) //nolint:errcheck // only what could not be moved is left
	pom, jars := filepath.Join(place, "pom.xml"), filepath.Join(place, "jars")
	if err := os.WriteFile(pom, []byte(pomOf(artifacts)), 0o600); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	out, err := output(ctx, mvn, "-q", "-B", "-f", pom, "dependency:copy-dependencies",
		"-DoutputDirectory="+jars, "-DincludeScope=runtime")
	if err != nil {
		return "", fmt.Errorf("maven: %w\n%s", err, out)
	}
	return dir, os.Rename(jars, dir)
}

// pomOf is a project that depends on the artifacts and on nothing else.
func pomOf(artifacts []string) string {
	var b strings.Builder
	b.WriteString(`<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>` +
		`<groupId>servers</groupId><artifactId>servers</artifactId><version>1</version><dependencies>`)
	for _, a := range artifacts {
		f := strings.Split(a, ":")
		fmt.Fprintf(&b, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>", f[0], f[1], f[2])
	}
	b.WriteString("</dependencies></project>")
	return b.String()
}
