// Package archtest holds the rules of the source tree as tests: what may
// import what, how large a file may grow, what every package must say about
// itself. They run with all the other tests, so that a rule that is broken is
// a red test and not a remark in a review. What a linter can check well is
// in .golangci.yml instead; the few rules that are in both, such as the purity
// of the machine, are the ones the rest of the system stands on.
package archtest
