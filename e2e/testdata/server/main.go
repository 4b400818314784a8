// Server is the only program of the images that the scripts use: as a bundle it serves
// HTTP and UDP, and the scripts run its other commands inside containers.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	command, args := "serve", os.Args[1:]
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if err := run(command, args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	switch {
	case command == "serve":
		return serve()
	case command == "get" && len(args) == 1:
		return get(args[0])
	case command == "env" && len(args) == 1:
		value, found := os.LookupEnv(args[0])
		if !found {
			return fmt.Errorf("%s is not set", args[0])
		}
		fmt.Println(value)
		return nil
	case command == "cat" && len(args) == 1:
		text, err := os.ReadFile(args[0])
		fmt.Print(string(text))
		return err
	case command == "write" && len(args) == 2:
		return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
	case command == "length" && len(args) == 1:
		text, err := os.ReadFile(args[0])
		fmt.Printf("%d bytes\n", len(text))
		return err
	case command == "check":
		return check()
	}
	return fmt.Errorf("no such command: %q", os.Args[1:])
}

// serve answers on HTTP port 8080 and UDP port 8053 until it is told to stop. With EXIT in
// the environment it logs LINES lines and the value of SECRET, and exits with that status.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if text := os.Getenv("EXIT"); text != "" {
		status, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		lines, _ := strconv.Atoi(os.Getenv("LINES"))
		for i := range lines {
			fmt.Printf("line %d\n", i+1)
		}
		if secret := os.Getenv("SECRET"); secret != "" {
			fmt.Fprintf(os.Stderr, "refused: %s\n", secret)
		}
		os.Exit(status)
	}
	packets, err := net.ListenPacket("udp", ":8053")
	if err != nil {
		return err
	}
	go echo(packets)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprintf(w, "this is %s\n", local)
	})
	http.HandleFunc("/exit/{status}", func(_ http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.PathValue("status"))
		if err != nil {
			status = 1
		}
		fmt.Println("asked to exit")
		os.Exit(status)
	})
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("serving")
	go func() { _ = http.Serve(listener, nil) }()
	<-ctx.Done()
	return nil
}

func echo(packets net.PacketConn) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buffer[:n], from)
	}
}

// get asks from where it runs. An engine's packet filter drops what it does not let
// through, so the absence of an answer is what there is to see; the wait for it is bounded.
func get(url string) error {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// check is the health check of the images that have one. HEALTH says how it goes.
func check() error {
	switch os.Getenv("HEALTH") {
	case "bad":
		return fmt.Errorf("the rules are missing")
	case "dies":
		return get("http://127.0.0.1:8080/exit/9")
	}
	return get("http://127.0.0.1:8080/")
}
