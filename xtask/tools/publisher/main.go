// Publisher is the baseline that ingest is compared with: the fastest that nats.go publishes messages of one kilobyte,
// each for itself and each acknowledged, into a file stream of its own. It prints one line of JSON.
//
//	publisher -url nats://127.0.0.1:4222 -user tool -password-file nats-tool -seconds 2
//
// With -fetch it reads the last messages of a stream instead, as fast as they come.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// What was measured.
type report struct {
	Messages   int     `json:"messages"`
	Bytes      int     `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"`
	Pending    int     `json:"pending"`
}

const (
	stream  = "BENCH"
	subject = "bench.messages"
	// How long everything that was published may take to be acknowledged.
	patience = 30 * time.Second
)

func main() {
	url := flag.String("url", "", "NATS server")
	user := flag.String("user", "", "NATS user")
	passwordFile := flag.String("password-file", "", "file that holds the user's password")
	seconds := flag.Float64("seconds", 2, "how long to publish")
	size := flag.Int("size", 1024, "bytes of a message")
	pending := flag.Int("pending", 4000, "messages that may await their acknowledgement")
	fetch := flag.String("fetch", "", "read this stream instead")
	last := flag.Uint64("last", 0, "how many of its last messages to read")
	flag.Parse()
	answer, err := run(*url, *user, *passwordFile, *fetch, *last, *seconds, *size, *pending)
	if err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(answer)
}

func run(url, user, passwordFile, fetch string, last uint64, seconds float64, size, pending int) (report, error) {
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		return report{}, err
	}
	nc, err := nats.Connect(url, nats.UserInfo(user, strings.TrimSpace(string(password))))
	if err != nil {
		return report{}, err
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.PublishAsyncMaxPending(pending))
	switch {
	case err != nil:
		return report{}, err
	case fetch != "":
		return read(js, fetch, last)
	}
	return publish(js, seconds, size, pending)
}

func publish(js nats.JetStreamContext, seconds float64, size, pending int) (report, error) {
	// Whatever an earlier run left.
	_ = js.DeleteStream(stream)
	config := &nats.StreamConfig{Name: stream, Subjects: []string{subject}, Storage: nats.FileStorage}
	if _, err := js.AddStream(config); err != nil {
		return report{}, err
	}
	defer func() { _ = js.DeleteStream(stream) }()
	payload := bytes.Repeat([]byte("x"), size)
	began, before := time.Now(), cpuSeconds()
	end := began.Add(time.Duration(seconds * float64(time.Second)))
	count := 0
	for ; time.Now().Before(end); count++ {
		if _, err := js.PublishAsync(subject, payload, nats.StallWait(patience)); err != nil {
			return report{}, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		return report{}, fmt.Errorf("%d messages were not acknowledged", js.PublishAsyncPending())
	}
	took, cpu := time.Since(began).Seconds(), cpuSeconds()-before
	info, err := js.StreamInfo(stream)
	if err != nil {
		return report{}, err
	}
	if int(info.State.Msgs) != count {
		return report{}, fmt.Errorf("%d messages are stored of %d", info.State.Msgs, count)
	}
	return report{Messages: count, Bytes: count * size, Seconds: took, CPUSeconds: cpu, Pending: pending}, nil
}

// An ordered consumer pushes: nothing is acknowledged, nothing is asked for twice.
func read(js nats.JetStreamContext, name string, last uint64) (report, error) {
	info, err := js.StreamInfo(name)
	if err != nil {
		return report{}, err
	}
	if info.State.Msgs < last {
		return report{}, fmt.Errorf("%s holds %d messages, not %d", name, info.State.Msgs, last)
	}
	wanted, first := int(last), info.State.LastSeq-last+1
	began, before := time.Now(), cpuSeconds()
	sub, err := js.SubscribeSync("", nats.BindStream(name), nats.OrderedConsumer(), nats.StartSequence(first))
	if err != nil {
		return report{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	count, size := 0, 0
	for count < wanted {
		message, err := sub.NextMsg(patience)
		if err != nil {
			return report{}, fmt.Errorf("message %d of %d: %w", count+1, wanted, err)
		}
		count, size = count+1, size+len(message.Data)
	}
	took := time.Since(began).Seconds()
	return report{Messages: count, Bytes: size, Seconds: took, CPUSeconds: cpuSeconds() - before}, nil
}

// Processor time of this process so far.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
