// A broker that shares nothing with dts: mochi-mqtt on quic-go, and on TCP for whoever watches.
//
//	quicgo -quic 127.0.0.1:14567 -tcp 127.0.0.1:1883 -cert server.pem -key server.key
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/quic-go/quic-go"
)

// stream makes a QUIC stream look like a connection.
type stream struct {
	*quic.Stream
	c *quic.Conn
}

func (s stream) LocalAddr() net.Addr  { return s.c.LocalAddr() }
func (s stream) RemoteAddr() net.Addr { return s.c.RemoteAddr() }
func (s stream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

type listener struct {
	addr string
	cert tls.Certificate
	l    *quic.Listener
}

func (q *listener) ID() string       { return "quic" }
func (q *listener) Address() string  { return q.addr }
func (q *listener) Protocol() string { return "quic" }
func (q *listener) Init(*slog.Logger) (err error) {
	config := &tls.Config{Certificates: []tls.Certificate{q.cert}, NextProtos: []string{"mqtt"}}
	q.l, err = quic.ListenAddr(q.addr, config, nil)
	return err
}
func (q *listener) Serve(establish listeners.EstablishFn) {
	for {
		c, err := q.l.Accept(context.Background())
		if err != nil {
			return
		}
		go func() {
			s, err := c.AcceptStream(context.Background())
			if err == nil {
				establish("quic", stream{s, c})
			}
		}()
	}
}
func (q *listener) Close(done listeners.CloseFn) {
	done("quic")
	q.l.Close()
}

func main() {
	udp := flag.String("quic", "127.0.0.1:14567", "UDP address")
	tcp := flag.String("tcp", "127.0.0.1:1883", "TCP address")
	cert := flag.String("cert", "", "certificate, PEM")
	key := flag.String("key", "", "its key, PEM")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	check(err)
	s := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	check(s.AddHook(new(auth.AllowHook), nil))
	check(s.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: *tcp})))
	check(s.AddListener(&listener{addr: *udp, cert: pair}))
	check(s.Serve())
	fmt.Println("listening")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	check(s.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
