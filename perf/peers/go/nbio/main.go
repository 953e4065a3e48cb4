// The echo, or with --broadcast the fan-out, on nbio.
package main

import (
	"flag"
	"log"
	"net/http"
	"sync"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "address")
	isBroadcast := flag.Bool("broadcast", false, "send each message to everybody")
	flag.Parse()
	logging.SetLevel(logging.LevelError)

	var lock sync.Mutex
	all := map[*websocket.Conn]struct{}{}
	upgrader := websocket.NewUpgrader()
	upgrader.KeepaliveTime = 0
	upgrader.OnOpen(func(socket *websocket.Conn) {
		if *isBroadcast {
			lock.Lock()
			all[socket] = struct{}{}
			lock.Unlock()
		}
	})
	upgrader.OnClose(func(socket *websocket.Conn, _ error) {
		lock.Lock()
		delete(all, socket)
		lock.Unlock()
	})
	upgrader.OnMessage(func(socket *websocket.Conn, kind websocket.MessageType, payload []byte) {
		if !*isBroadcast {
			_ = socket.WriteMessage(kind, payload)
			return
		}
		lock.Lock()
		defer lock.Unlock()
		for one := range all {
			_ = one.WriteMessage(kind, payload)
		}
	})

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		_, _ = upgrader.Upgrade(writer, request, nil)
	})
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{*listen},
		Handler:                 mux,
		IOMod:                   nbhttp.IOModNonBlocking,
		MaxLoad:                 1_000_000,
		ReleaseWebsocketPayload: true,
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}
