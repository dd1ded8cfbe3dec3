// Porcupine's verdict on histories of the seeded simulation (simulation/outsider.py writes them).
//
// Reads lines of JSON, one history of one key each, and prints one verdict per line: "linearizable",
// "not linearizable" or "undecided".
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const patience = 10 * time.Second

type operation struct {
	Operation string   `json:"operation"`
	Label     string   `json:"label"`
	Invoked   int64    `json:"invoked"`
	Returned  int64    `json:"returned"` // 0: null, no answer
	Status    string   `json:"status"`
	Error     string   `json:"error"`
	Answer    []string `json:"answer"`
}

type history struct {
	Operations []operation `json:"operations"`
}

// specified says what a key holds after an operation, and what is answered; ok is false where it is refused.
func specified(held []string, asked operation) (made, answer []string, ok bool) {
	longer := append(slices.Clone(held), asked.Label)
	switch asked.Operation {
	case "read":
		return held, held, true
	case "del":
		return nil, held, true
	case "mut", "odd":
		return longer, longer, true
	case "cond":
		if len(held)%2 == 0 {
			return longer, longer, true
		}
	}
	return held, nil, false
}

// step is the model: the state is the labels, joined by a byte that is in none of them.
func step(state, input, output any) (bool, any) {
	var held []string
	if state.(string) != "" {
		held = strings.Split(state.(string), "\n")
	}
	asked := input.(operation)
	made, answer, ok := specified(held, asked)
	after := strings.Join(made, "\n")
	switch answered := output.(operation); {
	case answered.Status == "ok":
		return ok && answered.Answer != nil && slices.Equal(answer, answered.Answer), after
	case answered.Status == "error" && answered.Error == "refused":
		return !ok, state
	case answered.Status == "timeout" || answered.Status == "":
		return true, after // whatever it makes: one that never takes effect comes behind everything
	}
	return true, state // any other error, or rejected: no effect
}

func operations(told history) []porcupine.Operation {
	var made []porcupine.Operation
	for client, asked := range told.Operations {
		returned := asked.Returned
		if asked.Status == "timeout" || asked.Status == "" {
			returned = math.MaxInt64
		}
		made = append(made, porcupine.Operation{
			ClientId: client, Input: asked, Call: asked.Invoked, Output: asked, Return: returned,
		})
	}
	return made
}

func main() {
	model := porcupine.Model{Init: func() any { return "" }, Step: step}
	words := map[porcupine.CheckResult]string{
		porcupine.Ok: "linearizable", porcupine.Illegal: "not linearizable", porcupine.Unknown: "undecided",
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var told history
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			log.Fatal(err)
		}
		fmt.Println(words[porcupine.CheckOperationsTimeout(model, operations(told), patience)])
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
