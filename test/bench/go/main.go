// Closed loops through etcd's own Go client: so many callers, each with one operation in flight,
// over one connection. Prints one line of JSON.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o load main.go
//	./load -endpoints 127.0.0.1:2379 -operation put -callers 128 -settle 300ms -duration 1500ms -warm-up 4s
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const valueBytes = 256

// Of a measurement that waits for its callers.
const maxDuration = 20 * time.Second

// What the bench reads. The names are those of its own measurements.
type measurement struct {
	OperationsPerSecond float64 `json:"operationsPerSecond"`
	P50Ms               float64 `json:"p50Ms"`
	P99Ms               float64 `json:"p99Ms"`
	ClientMicroseconds  float64 `json:"clientMicroseconds"`
	// Of the same loop before it was given time to become warm.
	ColdOperationsPerSecond float64 `json:"coldOperationsPerSecond,omitempty"`
	ColdP50Ms               float64 `json:"coldP50Ms,omitempty"`
	ColdP99Ms               float64 `json:"coldP99Ms,omitempty"`
}

type times struct{ settle, duration, warmUp time.Duration }

// Parts of the loop: nothing is counted, or towards the first measurement, or the second.
const (
	uncounted = iota
	first
	second
	spans
)

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "host:port, with commas between")
	operation := flag.String("operation", "put", "put or get")
	callers := flag.Int("callers", 128, "operations in flight")
	var spent times
	flag.DurationVar(&spent.settle, "settle", 300*time.Millisecond, "until the first measurement")
	flag.DurationVar(&spent.duration, "duration", 1500*time.Millisecond, "of a measurement")
	flag.DurationVar(&spent.warmUp, "warm-up", 0, "until a second measurement; 0 for none")
	flag.Parse()
	result, err := measure(strings.Split(*endpoints, ","), *operation, *callers, spent)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func measure(endpoints []string, operation string, callers int, spent times) (*measurement, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	space := fmt.Sprintf("bench/go/%d/", time.Now().UnixNano())
	value := strings.Repeat("v", valueBytes)
	if _, err := client.Put(context.Background(), space, value); err != nil {
		return nil, err
	}
	call, err := operationOf(client, operation, space, value)
	if err != nil {
		return nil, err
	}

	var stopped atomic.Bool
	var span atomic.Int32
	var answers [spans]atomic.Int64
	type outcome struct {
		latencies [spans][]time.Duration
		err       error
	}
	outcomes := make(chan outcome, callers)
	for range callers {
		go func() {
			var mine outcome
			for mine.err == nil && !stopped.Load() {
				sent := time.Now()
				mine.err = call()
				if now := span.Load(); now != uncounted {
					mine.latencies[now] = append(mine.latencies[now], time.Since(sent))
					answers[now].Add(1)
				}
			}
			outcomes <- mine
		}()
	}
	count := func(counted int32) (elapsed, processor time.Duration) {
		start, processorBefore := time.Now(), processorTime()
		span.Store(counted)
		time.Sleep(spent.duration)
		// A slow machine gets longer: a rate needs at least one operation of every caller.
		for answers[counted].Load() < int64(callers) && time.Since(start) < maxDuration {
			time.Sleep(spent.duration / 4)
		}
		span.Store(uncounted)
		return time.Since(start), processorTime() - processorBefore
	}
	begin := time.Now()
	time.Sleep(spent.settle)
	var elapsed, processor [spans]time.Duration
	elapsed[first], processor[first] = count(first)
	if spent.warmUp > 0 {
		time.Sleep(spent.warmUp - time.Since(begin))
		elapsed[second], processor[second] = count(second)
	}
	stopped.Store(true)

	var latencies [spans][]time.Duration
	for range callers {
		one := <-outcomes
		// An operation that fails ends the measurement: a rate with errors in it means nothing.
		if one.err != nil {
			return nil, one.err
		}
		for counted := range latencies {
			latencies[counted] = append(latencies[counted], one.latencies[counted]...)
		}
	}
	result, err := summarize(latencies[first], elapsed[first], processor[first])
	if err != nil || spent.warmUp == 0 {
		return result, err
	}
	cold := result
	if result, err = summarize(latencies[second], elapsed[second], processor[second]); err != nil {
		return nil, err
	}
	result.ColdOperationsPerSecond = cold.OperationsPerSecond
	result.ColdP50Ms, result.ColdP99Ms = cold.P50Ms, cold.P99Ms
	return result, nil
}

func summarize(latencies []time.Duration, elapsed, processor time.Duration) (*measurement, error) {
	if len(latencies) == 0 {
		return nil, errors.New("nothing was answered")
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	return &measurement{
		OperationsPerSecond: float64(len(latencies)) / elapsed.Seconds(),
		P50Ms:               milliseconds(quantile(latencies, 0.5)),
		P99Ms:               milliseconds(quantile(latencies, 0.99)),
		ClientMicroseconds:  float64(processor.Microseconds()) / float64(len(latencies)),
	}, nil
}

// A put goes to a new key each time; a get is linearizable and checks what it gets.
func operationOf(client *clientv3.Client, name, space, value string) (func() error, error) {
	switch name {
	case "put":
		var next int64
		return func() error {
			key := fmt.Sprintf("%s%09d", space, atomic.AddInt64(&next, 1))
			_, err := client.Put(context.Background(), key, value)
			return err
		}, nil
	case "get":
		return func() error {
			got, err := client.Get(context.Background(), space)
			if err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value) {
				return errors.New("the value read is not the one put")
			}
			return err
		}, nil
	}
	return nil, fmt.Errorf("-operation: must be put or get, got %s", name)
}

func quantile(sorted []time.Duration, fraction float64) time.Duration {
	return sorted[min(len(sorted)-1, int(fraction*float64(len(sorted))))]
}

func milliseconds(duration time.Duration) float64 {
	return float64(duration.Nanoseconds()) / 1e6
}

// User and system time of this process.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
