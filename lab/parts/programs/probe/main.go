// probe is the pod of the end-to-end tests: a server that answers with its own name, and a client.
//
//	probe serve [ADDRESS]   answers every request with the host name; ADDRESS is :8080
//	probe get URL           prints the body; exit code 1 unless the status is 200
//	probe lookup NAME       prints the addresses of NAME, one a line
//	probe sleep             waits for SIGTERM
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const patience = 5 * time.Second // for one request or lookup

func serve(ctx context.Context, address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: address,
		Handler: http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(answer, name)
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func lookup(ctx context.Context, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

func run(arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch {
	case len(arguments) == 1 && arguments[0] == "serve":
		return serve(ctx, ":8080")
	case len(arguments) == 2 && arguments[0] == "serve":
		return serve(ctx, arguments[1])
	case len(arguments) == 2 && arguments[0] == "get":
		return get(brief, arguments[1])
	case len(arguments) == 2 && arguments[0] == "lookup":
		return lookup(brief, arguments[1])
	case len(arguments) == 1 && arguments[0] == "sleep":
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("usage: probe serve [ADDRESS] | get URL | lookup NAME | sleep")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
