// An echo of the inference protocol and a load generator for it, both of which pass bytes on without reading them.
//
//	bench echo                                  prints its address, serves until its input ends
//	bench load ADDRESS [options] < REQUEST      prints what came of it as JSON
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	service  = "inference.GRPCInferenceService"
	unary    = "/" + service + "/ModelInfer"
	streamed = "/" + service + "/ModelStreamInfer"

	// One connection is served by one flow-control window; more clients share these.
	maxChannels = 8

	// Calls of an open loop that may be under way: more are counted as lost.
	maxOpen = 4096
)

// raw passes messages on as bytes.
type raw struct{}

func (raw) Name() string                  { return "proto" }
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append((*v.(*[]byte))[:0], data...)
	return nil
}

func echo() error {
	infer := func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		message := new([]byte)
		return message, read(message)
	}
	stream := func(_ any, stream grpc.ServerStream) error {
		message := new([]byte)
		for {
			if err := stream.RecvMsg(message); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(message); err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "ModelInfer", Handler: infer}},
		Streams: []grpc.StreamDesc{
			{StreamName: "ModelStreamInfer", Handler: stream, ServerStreams: true, ClientStreams: true}},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	return server.Serve(listener)
}

// counts is what one client saw; times in nanoseconds.
type counts struct {
	answered, refused []time.Duration
	failed            int
	reasons           map[string]int
}

func (c *counts) add(began time.Time, err error) {
	took := time.Since(began)
	switch status.Code(err) {
	case codes.OK:
		c.answered = append(c.answered, took)
	case codes.ResourceExhausted:
		c.refused = append(c.refused, took)
	default:
		c.failed++
		c.reasons[status.Code(err).String()]++
	}
}

type load struct {
	channels []*grpc.ClientConn
	request  []byte
	ctx      context.Context
	ends     time.Time
	url      string // of a POST in place of a gRPC call
	web      *http.Client
}

func (l *load) call(number int, answer *[]byte) error {
	if l.url == "" {
		return l.channels[number%len(l.channels)].Invoke(l.ctx, unary, &l.request, answer)
	}
	asked, err := http.NewRequestWithContext(l.ctx, http.MethodPost, l.url, bytes.NewReader(l.request))
	if err != nil {
		return err
	}
	asked.Header.Set("Content-Type", "application/json")
	told, err := l.web.Do(asked)
	if err != nil {
		return err
	}
	defer told.Body.Close()
	if _, err := io.Copy(io.Discard, told.Body); err != nil {
		return err
	}
	switch told.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return status.Error(codes.ResourceExhausted, told.Status)
	}
	return status.Error(codes.Unknown, told.Status)
}

// closed keeps one call under way for each client.
func (l *load) closed(number int, seen *counts) {
	answer := new([]byte)
	for time.Now().Before(l.ends) {
		began := time.Now()
		seen.add(began, l.call(number, answer))
	}
}

// streams keeps one request under way on a stream for each client.
func (l *load) streams(number int, seen *counts) {
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := l.channels[number%len(l.channels)].NewStream(l.ctx, description, streamed)
	answer := new([]byte)
	for err == nil && time.Now().Before(l.ends) {
		began := time.Now()
		if err = stream.SendMsg(&l.request); err == nil {
			err = stream.RecvMsg(answer)
		}
		seen.add(began, err)
	}
	if err != nil {
		seen.add(time.Now(), err)
		return
	}
	stream.CloseSend()
}

// open sends calls at a rate, whatever becomes of those before.
func (l *load) open(rate float64, seen *counts) (lost int) {
	var under atomic.Int64
	var lock sync.Mutex
	var calls sync.WaitGroup
	began := time.Now()
	for number := 0; ; number++ {
		due := began.Add(time.Duration(float64(number) / rate * float64(time.Second)))
		if due.After(l.ends) {
			break
		}
		time.Sleep(time.Until(due))
		if under.Load() >= maxOpen {
			lost++
			continue
		}
		under.Add(1)
		calls.Add(1)
		go func() {
			defer calls.Done()
			defer under.Add(-1)
			began, answer := time.Now(), new([]byte)
			err := l.call(number, answer)
			lock.Lock()
			defer lock.Unlock()
			seen.add(began, err)
		}()
	}
	calls.Wait()
	return lost
}

func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(float64(len(sorted)-1)*share)]) / 1e6
}

func generate(arguments []string) error {
	options := flag.NewFlagSet("load", flag.ExitOnError)
	clients := options.Int("clients", 1, "calls, or streams, under way at once")
	seconds := options.Float64("seconds", 4, "how long")
	rate := options.Float64("rate", 0, "calls a second instead, whatever becomes of those before")
	stream := options.Bool("stream", false, "streams instead of unary calls")
	path := options.String("post", "", "path of a JSON POST in place of the gRPC call")
	key := options.String("key", "", "authorization")
	timeout := options.Float64("timeout", 30, "seconds a call may take beyond the end")
	address := arguments[0]
	if err := options.Parse(arguments[1:]); err != nil {
		return err
	}
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	l := &load{request: request, web: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxOpen}}}
	if *path != "" {
		l.url = "http://" + address + *path
	}
	channels := min(*clients, maxChannels)
	if *rate > 0 {
		channels = maxChannels
	}
	for range channels {
		channel, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
		if err != nil {
			return err
		}
		defer channel.Close()
		l.channels = append(l.channels, channel)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration((*seconds+*timeout)*1e9))
	defer cancel()
	l.ctx = ctx
	if *key != "" {
		l.ctx = metadata.AppendToOutgoingContext(ctx, "authorization", *key)
	}
	began := time.Now()
	l.ends = began.Add(time.Duration(*seconds * 1e9))
	all := make([]counts, max(*clients, 1))
	for number := range all {
		all[number].reasons = map[string]int{}
	}
	lost := 0
	if *rate > 0 {
		lost = l.open(*rate, &all[0])
	} else {
		var group sync.WaitGroup
		for number := range all {
			group.Add(1)
			go func() {
				defer group.Done()
				if *stream {
					l.streams(number, &all[number])
				} else {
					l.closed(number, &all[number])
				}
			}()
		}
		group.Wait()
	}
	return report(all, time.Since(began).Seconds(), lost)
}

func report(all []counts, elapsed float64, lost int) error {
	var sum counts
	reasons := map[string]int{}
	for _, one := range all {
		sum.answered = append(sum.answered, one.answered...)
		sum.refused = append(sum.refused, one.refused...)
		sum.failed += one.failed
		for reason, count := range one.reasons {
			reasons[reason] += count
		}
	}
	slices.Sort(sum.answered)
	slices.Sort(sum.refused)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests_per_s": float64(len(sum.answered)) / elapsed, "requests": len(sum.answered), "failed": sum.failed,
		"p50_ms": quantile(sum.answered, 0.5), "p99_ms": quantile(sum.answered, 0.99), "refused": len(sum.refused),
		"refused_p99_ms": quantile(sum.refused, 0.99), "lost": lost, "reasons": reasons,
	})
}

func main() {
	err := errors.New("echo, or load ADDRESS")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "echo":
		err = echo()
	case len(os.Args) > 2 && os.Args[1] == "load":
		err = generate(os.Args[2:])
	}
	if err != nil {
		log.Fatal(err)
	}
}
