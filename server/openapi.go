package server

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
)

// object is a JSON object of the document.
type object = map[string]any

// describe makes the OpenAPI document of a table of routes. It is made from
// the types that the handlers decode into and encode, so it cannot fall
// behind them.
func describe(table []route, version string) ([]byte, error) {
	d := &document{schemas: object{}}
	paths := object{}
	for i := range table {
		r := &table[i]
		item, _ := paths[r.path].(object)
		if item == nil {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = d.operation(r)
	}
	if version == "" {
		version = "unknown"
	}
	problem := d.schema(reflect.TypeFor[wire.Problem]())
	return json.MarshalIndent(object{
		"openapi": "3.0.3",
		"info": object{
			"title":       "Lockkeeper",
			"version":     version,
			"description": "Locks that are safe and queues that lose nothing. Tokens and sequence numbers are strings, durations are integers in fields that end in _ms, unknown fields and query parameters are errors. Errors are problem details (RFC 9457) with a stable code.",
			"license":     object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"servers":  []any{object{"url": "/"}},
		"security": []any{object{}, object{"token": []any{}}},
		"paths":    paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "Wanted if the daemon was started with a file of tokens."}},
			"responses":       object{"Problem": object{"description": "A problem; branch on its code.", "content": object{"application/problem+json": object{"schema": problem}}}},
		},
	}, "", "  ")
}

// document collects the schemas of named types.
type document struct{ schemas object }

func (d *document) operation(r *route) object {
	op := object{"operationId": r.op, "summary": r.summary, "responses": d.responses(r)}
	if r.public {
		op["security"] = []any{object{}}
	}
	if len(r.params) > 0 {
		var list []any
		for _, p := range r.params {
			list = append(list, parameter(p, p.name == r.required))
		}
		op["parameters"] = list
	}
	if r.in == nil {
		return op
	}
	schema := d.schema(reflect.TypeOf(r.in))
	content := object{"application/json": object{"schema": schema}}
	if r.op == "publish" {
		anything := object{"description": "with exchange or key in the query: the message as it is"}
		content["application/json"] = object{"schema": object{"anyOf": []any{schema, anything}}}
		content["application/x-ndjson"] = object{"schema": object{"type": "string", "description": "one message a line"}}
		content["*/*"] = object{"schema": object{"type": "string", "format": "binary", "description": "the message as it is"}}
	}
	op["requestBody"] = object{"required": r.op != "publish", "content": content}
	return op
}

func (d *document) responses(r *route) object {
	out := object{"default": object{"$ref": "#/components/responses/Problem"}}
	switch {
	case r.op == "publish":
		schema := object{"oneOf": []any{d.schema(reflect.TypeOf(r.out)), d.schema(reflect.TypeFor[wire.Receipt]())}}
		out["200"] = object{"description": "Receipts of a batch, or the receipt of a raw message.", "content": object{"application/json": object{"schema": schema}}}
	case r.upgrade:
		out["101"] = object{"description": "From here on the connection is a WebSocket."}
	case r.media != "":
		out["200"] = object{"description": "OK", "content": object{r.media: object{"schema": object{"type": "string"}}}}
	case r.out == nil:
		out["204"] = object{"description": "Done."}
	default:
		out["200"] = object{"description": "OK", "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(r.out))}}}
	}
	return out
}

func parameter(p param, required bool) object {
	schema := object{"type": "string"}
	switch p.kind {
	case number:
		schema = object{"type": "integer", "format": "int64", "minimum": 0}
	case flag:
		schema = object{"type": "boolean"}
	case instant:
		schema = object{"type": "string", "format": "date-time"}
	case text, table:
	}
	return object{"name": p.name, "in": "query", "description": p.doc, "required": required, "schema": schema}
}

// schema describes a type; named structs become components.
func (d *document) schema(t reflect.Type) object {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[lease.Token]():
		return object{"type": "string", "pattern": "^[1-9][0-9]{0,19}$"}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[wire.Headers](), reflect.TypeFor[object]():
		return object{"type": "object", "additionalProperties": true}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Uint8:
		return object{"type": "integer", "minimum": 0, "maximum": 255}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		ref := object{"$ref": "#/components/schemas/" + t.Name()}
		if d.schemas[t.Name()] == nil {
			d.schemas[t.Name()] = object{} // ends recursion
			d.schemas[t.Name()] = d.structSchema(t)
		}
		return ref
	}
	return object{"type": "string"}
}

func (d *document) structSchema(t reflect.Type) object {
	props := object{}
	var required []string
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" {
			continue
		}
		s := d.schema(f.Type)
		if strings.Contains(options, "string") {
			s = object{"type": "string", "pattern": "^[0-9]{1,20}$"}
		}
		if t == reflect.TypeFor[wire.Problem]() && name == "code" {
			s["enum"] = wire.Codes()
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			s["enum"] = strings.Split(enum, ",")
		}
		if doc := f.Tag.Get("doc"); doc != "" {
			if s["$ref"] != nil { // nothing may stand beside a $ref in 3.0
				s = object{"allOf": []any{s}}
			}
			s["description"] = doc
		}
		props[name] = s
		if !strings.Contains(options, "omitempty") {
			required = append(required, name)
		}
	}
	out := object{"type": "object", "properties": props, "additionalProperties": false}
	if required != nil {
		out["required"] = required
	}
	return out
}
