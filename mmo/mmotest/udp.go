package mmotest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// peer is an address from which datagrams come. It is comparable.
type peer interface{ send(datagram []byte) }

type socketPeer struct {
	socket *net.UDPConn
	at     netip.AddrPort
}

// send ignores an error, as a network does.
func (p socketPeer) send(datagram []byte) { _, _ = p.socket.WriteToUDPAddrPort(datagram, p.at) }

// datagramClients are the clients over UDP. Edge.mu guards them.
type datagramClients struct {
	byID   map[uint64]*client
	bySeed map[[edge.SeedSize]byte]*client
}

func (e *Edge) readDatagrams() {
	buf := make([]byte, edge.MaxDatagram)
	for {
		n, from, err := e.udp.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			e.datagram(socketPeer{e.udp, from}, buf[:n])
		case errors.Is(err, net.ErrClosed) || !e.pause():
			return
		}
	}
}

// datagram handles a datagram from the network. It overwrites the datagram.
func (e *Edge) datagram(from peer, datagram []byte) {
	f := e.faults.Load()
	if f == nil {
		e.deliver(from, datagram)
		return
	}
	kept := bytes.Clone(datagram)
	r := &e.arriving
	if c := e.clientOf(kept); c != nil {
		r = &c.arriving
	}
	if !f.pass(r, &f.in, func() { e.deliver(from, bytes.Clone(kept)) }) {
		e.stats.lost.Add(1)
	}
}

// clientOf returns the client that a datagram belongs to. For a login it is nil.
func (e *Edge) clientOf(datagram []byte) *client {
	id, _, _ := edge.ParseDatagram(datagram)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.overUDP.byID[id]
}

func (e *Edge) deliver(from peer, datagram []byte) {
	id, rest, ok := edge.ParseDatagram(datagram)
	if ok && id == 0 {
		if !e.loginOverUDP(from, rest) {
			e.stats.refusedLogins.Add(1)
		}
		return
	}
	c := e.clientOf(datagram)
	if c == nil {
		e.stats.garbled.Add(1)
		return
	}
	c.receive(rest, from)
}

// loginOverUDP reports whether the datagram logs in. A client repeats its login after a
// lost answer. It then gets the same answer, and does not become a second member.
func (e *Edge) loginOverUDP(from peer, rest []byte) bool {
	seed, payload, ok := edge.ParseAuth(rest)
	if !ok || len(payload) > edge.Overhead+edge.MaxConnectKey {
		return false
	}
	e.mu.Lock()
	c := e.overUDP.bySeed[seed]
	e.mu.Unlock()
	repeated := c != nil
	if !repeated {
		c = e.newDatagramClient(seed, from)
	}
	m, err := c.cipher.Open(payload)
	if err != nil || !e.settings.Load().inTime(m.Time) {
		return false
	}
	if repeated {
		if string(m.Data) != c.key {
			return false
		}
		// The client keeps its address, because somebody else may have recorded the login
		// and sent it again.
		if answer := c.seal(nil, edge.AuthOK); answer != nil {
			c.link.(*datagramLink).sendTo(from, answer)
		}
		return true
	}
	c.key = string(m.Data)
	return e.login(c, m)
}

func (e *Edge) newDatagramClient(seed [edge.SeedSize]byte, from peer) *client {
	c := &client{
		e: e, cipher: edge.NewCipher(seed), seed: seed,
		maxData: edge.MaxDatagram - edge.DatagramHeader - edge.Overhead,
	}
	for c.id == 0 { // is not valid
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails
		c.id = binary.BigEndian.Uint64(id[:])
	}
	c.link = &datagramLink{c: c, at: from}
	return c
}

// datagramLink sends datagrams.
type datagramLink struct {
	c *client

	mu     sync.Mutex
	at     peer
	newest time.Time // the time in the newest payload, which came from at
}

// follow changes the client's address to from, if the payload from there is the newest. A
// late datagram from a former address changes nothing.
func (l *datagramLink) follow(from peer, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !at.Before(l.newest) {
		l.at, l.newest = from, at
	}
}

func (l *datagramLink) header(packet []byte) []byte { return edge.AppendHeader(packet, l.c.id) }

func (l *datagramLink) send(packet []byte) error {
	l.mu.Lock()
	at := l.at
	l.mu.Unlock()
	l.sendTo(at, packet)
	return nil
}

func (l *datagramLink) sendTo(at peer, packet []byte) {
	f := l.c.e.faults.Load()
	if f == nil {
		at.send(packet)
		return
	}
	kept := bytes.Clone(packet)
	if !f.pass(&l.c.leaving, &f.out, func() { at.send(kept) }) {
		l.c.e.stats.lost.Add(1)
	}
}

func (l *datagramLink) flush() error { return nil }
func (l *datagramLink) finish()      {}
func (l *datagramLink) expire()      {}
func (l *datagramLink) cut()         {}
