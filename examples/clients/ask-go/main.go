// A request and its answer with franz-go: go run . BOOTSTRAP KEY VALUE [OPERATION [PREFIX]]
//
// Without an operation the request has no headers at all; its id is then where it lies. The client's default
// partitioner is the one of the keys: nothing has to be moved.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

func ask(ctx context.Context, bootstrap, key, value, operation, prefix string) (string, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(prefix+"responses"),
		// Some seconds back: an answer cannot be missed, wherever the ends are when the first fetch leaves.
		kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().Add(-5*time.Second).UnixMilli())),
	)
	if err != nil {
		return "", err
	}
	defer client.Close()

	request := &kgo.Record{Topic: prefix + "requests", Key: []byte(key), Value: []byte(value)}
	id := rand.Text()
	if operation != "" {
		request.Headers = []kgo.RecordHeader{{Key: "id", Value: []byte(id)}, {Key: "operation", Value: []byte(operation)}}
	}
	stored, err := client.ProduceSync(ctx, request).First()
	if err != nil {
		return "", err
	}
	if operation == "" {
		id = fmt.Sprintf("%s-%d-%d", stored.Topic, stored.Partition, stored.Offset)
	}
	for {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("no answer to %s: %w", id, err)
		}
		for _, answer := range fetches.Records() {
			if header(answer, "id") == id {
				return header(answer, "status") + " " + string(answer.Value), nil
			}
		}
	}
}

func main() {
	given := append(os.Args[1:], make([]string, 5)...)[:5]
	if given[4] == "" {
		given[4] = "hal9."
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := ask(ctx, given[0], given[1], given[2], given[3], given[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer)
}
