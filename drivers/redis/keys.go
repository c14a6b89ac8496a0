package redis

import "strings"

// Kinds of keys, in the order in which the scripts expect them.
const keyKinds = "hqlwfbxy"

var tagEscaper = strings.NewReplacer("%", "%25", "}", "%7D")

// tagOf returns what decides about the slot of a name: what is between its
// first pair of braces, as Redis has it, and otherwise all of it.
func tagOf(name string) string {
	if _, rest, ok := strings.Cut(name, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return tag
		}
	}
	return name
}

// keysOf returns the keys of a name:
//
//	PREFIX{NAME}h        for a name without a tag of its own
//	PREFIX{TAG}h:NAME    for one with {TAG} in it
//
// and so with q, l, w, f, b, x and y. Percent signs and closing braces within the
// braces are escaped, so that all keys of a name are in one slot whatever it
// is called.
func keysOf(prefix, name string) [len(keyKinds)]string {
	tag := tagOf(name)
	head, tail := prefix+"{"+tagEscaper.Replace(tag)+"}", ""
	if tag != name {
		tail = ":" + name
	}
	var keys [len(keyKinds)]string
	for i, kind := range keyKinds {
		keys[i] = head + string(kind) + tail
	}
	return keys
}

// nameOf is the inverse of keysOf for the key of the state.
func nameOf(prefix, key string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix+"{")
	if !ok {
		return "", false
	}
	tag, rest, ok := strings.Cut(rest, "}h")
	if !ok || strings.Contains(tag, "}") {
		return "", false
	}
	if rest == "" {
		name = strings.NewReplacer("%7D", "}", "%25", "%").Replace(tag)
	} else if name, ok = strings.CutPrefix(rest, ":"); !ok {
		return "", false
	}
	return name, keysOf(prefix, name)[0] == key
}

// globEscaper makes a pattern of SCAN that matches a text itself.
var globEscaper = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "^", `\^`)
