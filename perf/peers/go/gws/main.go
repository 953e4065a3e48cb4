// The echo, or with --broadcast the fan-out, on gws.
package main

import (
	"flag"
	"log"
	"net/http"
	"sync"

	"github.com/lxzan/gws"
)

type handler struct {
	gws.BuiltinEventHandler
	isBroadcast bool
	lock        sync.Mutex
	all         map[*gws.Conn]struct{}
}

func (h *handler) OnOpen(socket *gws.Conn) {
	if h.isBroadcast {
		h.lock.Lock()
		h.all[socket] = struct{}{}
		h.lock.Unlock()
	}
}

func (h *handler) OnClose(socket *gws.Conn, _ error) {
	h.lock.Lock()
	delete(h.all, socket)
	h.lock.Unlock()
}

func (h *handler) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer message.Close()
	if !h.isBroadcast {
		_ = socket.WriteMessage(message.Opcode, message.Bytes())
		return
	}
	broadcaster := gws.NewBroadcaster(message.Opcode, message.Bytes())
	defer broadcaster.Close()
	h.lock.Lock()
	defer h.lock.Unlock()
	for one := range h.all {
		_ = broadcaster.Broadcast(one)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "address")
	isBroadcast := flag.Bool("broadcast", false, "send each message to everybody")
	flag.Parse()
	h := &handler{isBroadcast: *isBroadcast, all: map[*gws.Conn]struct{}{}}
	upgrader := gws.NewUpgrader(h, &gws.ServerOption{ReadMaxPayloadSize: 16 << 20})
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		socket, err := upgrader.Upgrade(writer, request)
		if err != nil {
			return
		}
		go socket.ReadLoop()
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
