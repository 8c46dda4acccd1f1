package mmo

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// edgeAddr is where a room's edge is, and how to speak to it.
type edgeAddr struct {
	protocol string // one of the constants
	address  string // host:port, or the URL of a WebSocket
	host     string
	isSecure bool
}

// parseEdge reads an edge URL as the official clients do: ws:// and wss:// are URLs of
// WebSockets, anything else is host:port after an optional scheme. The protocol selects
// the transport; any unknown one means TCP. In two points parseEdge differs. A ws:// or
// wss:// URL without a known protocol is a WebSocket. And a wss:// URL is never used
// without TLS.
func parseEdge(edgeURL, protocol string) (edgeAddr, error) {
	edgeURL = strings.TrimSpace(edgeURL)
	scheme, rest, hasScheme := strings.Cut(edgeURL, "://")
	if !hasScheme {
		scheme, rest = "", edgeURL
	}
	scheme = strings.ToLower(scheme)
	isWebSocket := scheme == "ws" || scheme == "wss"

	switch strings.ToLower(strings.TrimSpace(protocol)) {
	case ProtocolWebSocket, "ws", "wss":
		if isWebSocket {
			return parseWebSocket(edgeURL)
		}
		addr, err := parseHostPort(ProtocolWebSocket, rest)
		addr.address = "ws://" + addr.address + "/ws"
		return addr, err
	case ProtocolUDP:
		protocol = ProtocolUDP
	case ProtocolTCP:
		protocol = ProtocolTCP
	default:
		if isWebSocket {
			return parseWebSocket(edgeURL)
		}
		protocol = ProtocolTCP
	}
	if !isWebSocket {
		return parseHostPort(protocol, rest)
	}
	ws, err := parseWebSocket(edgeURL)
	if err != nil {
		return edgeAddr{}, err
	}
	if ws.isSecure {
		return edgeAddr{}, failed(ErrEdgeURL, "it is wss://, but the protocol is "+protocol)
	}
	u, _ := url.Parse(ws.address)
	return parseHostPort(protocol, u.Host)
}

// parseWebSocket checks the URL of a WebSocket. Path and query are used as they are.
func parseWebSocket(s string) (edgeAddr, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " {}"):
		return edgeAddr{}, failed(ErrEdgeURL, "it is not a URL")
	case u.User != nil:
		return edgeAddr{}, failed(ErrEdgeURL, "it has a user name in it")
	case strings.Contains(s, "#"):
		return edgeAddr{}, failed(ErrEdgeURL, "it has a fragment")
	case strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return edgeAddr{}, failed(ErrEdgeURL, "it has an impossible port")
	}
	if err := checkHost(u.Hostname()); err != nil {
		return edgeAddr{}, err
	}
	return edgeAddr{ProtocolWebSocket, u.String(), u.Hostname(), u.Scheme == "wss"}, nil
}

// parseHostPort checks host:port. The API knows no default port.
func parseHostPort(protocol, s string) (edgeAddr, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		detail := "it is not host:port"
		if addrErr, ok := errors.AsType[*net.AddrError](err); ok {
			detail = addrErr.Err // quotes nothing
		}
		return edgeAddr{}, failed(ErrEdgeURL, detail)
	}
	if !isPort(port) {
		return edgeAddr{}, failed(ErrEdgeURL, "it has an impossible port")
	}
	if err := checkHost(host); err != nil {
		return edgeAddr{}, err
	}
	return edgeAddr{protocol, net.JoinHostPort(host, port), host, false}, nil
}

// checkHost accepts an IP address, or a text that can be a host name. Package net would
// take an empty host for this machine.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	ok := host != "" && !strings.HasPrefix(host, ".") && !strings.Contains(host, "..")
	for _, c := range []byte(host) {
		isWord := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c >= 0x80
		ok = ok && (isWord || c == '-' || c == '.' || c == '_')
	}
	if !ok {
		return failed(ErrEdgeURL, "it has an impossible host")
	}
	return nil
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
