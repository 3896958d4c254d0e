// A forward proxy on a free port of loopback. Prints its address, then a line for each tunnel that it opens.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/elazarl/goproxy"
)

func main() {
	proxy := goproxy.NewProxyHttpServer()
	proxy.ConnectDial = net.Dial
	proxy.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		fmt.Println("CONNECT", host)
		// A name that only the proxy resolves.
		if _, port, err := net.SplitHostPort(host); err == nil && len(os.Args) > 1 {
			return goproxy.OkConnect, net.JoinHostPort(os.Args[1], port)
		}
		return goproxy.OkConnect, host
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, proxy))
	os.Exit(1)
}
