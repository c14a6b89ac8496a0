// Package bench measures Lockkeeper side by side with the libraries that
// people use today, on the same server in the same run. It is a module of its
// own, so that their code stays out of ours:
//
//	cd bench && go test -bench . -run '^$' -count 6
package bench
