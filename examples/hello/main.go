// Hello is a web server to try a bottle's egress on, and a client that goes through the
// proxy of its environment, as an agent's programs do.
//
//	hello serve        answer every request on port 8080
//	hello get URL...   print what the URLs answer
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] == "get" && len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: hello serve | hello get URL...")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "get":
		for _, url := range os.Args[2:] {
			if err = get(url); err != nil {
				break
			}
		}
	default:
		err = fmt.Errorf("unknown word %q", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func serve() error {
	server := &http.Server{
		Addr:              ":8080",
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from %s\n", r.Host)
		}),
	}
	return server.ListenAndServe()
}

func get(url string) error {
	client := &http.Client{Timeout: 30 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	fmt.Printf("%s\n    %s\n", response.Status, body)
	return err
}
