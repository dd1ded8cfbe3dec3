// A counter behind HTTP, with nothing but Go's standard library: `go run . [PORT]`. Operations as in counter.py.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
)

type state struct {
	Count int64 `json:"count"`
}

type item struct {
	State     *state `json:"state"`
	Operation string `json:"operation"`
	Value     []byte `json:"value"` // base64 in JSON
}

type result struct {
	State  *state `json:"state,omitempty"`
	Answer []byte `json:"answer,omitempty"`
	Error  string `json:"error,omitempty"`
}

// run gives one result for one item: pure, so the same item gives the same result.
func run(given item) result {
	var count int64
	if given.State != nil {
		count = given.State.Count
	}
	switch given.Operation {
	case "get": // read-only: the state need not be said
		return result{Answer: strconv.AppendInt(nil, count, 10)}
	case "add", "process":
		step := int64(1)
		if len(given.Value) > 0 {
			var err error
			if step, err = strconv.ParseInt(string(given.Value), 10, 64); err != nil {
				return result{Error: "bad-value"}
			}
		}
		count += step
		return result{State: &state{count}, Answer: strconv.AppendInt(nil, count, 10)}
	}
	return result{Error: "unknown-operation"}
}

func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		json.NewEncoder(w).Encode(map[string]any{"name": "counter", "version": "go", "read_only": []string{"get"}})
		return
	}
	var batch struct{ Items []item }
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	results := make([]result, len(batch.Items))
	for i, given := range batch.Items {
		results[i] = run(given)
	}
	json.NewEncoder(w).Encode(map[string]any{"results": results})
}

func main() {
	port := "8000"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("http://%s/\n", listener.Addr())
	http.Serve(listener, http.HandlerFunc(serve))
}
