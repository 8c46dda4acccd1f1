// Package mmo speaks ShangCloud's rooms: the eight calls of the HTTP API, and the realtime
// connection to a room's edge.
//
// Without wss:// there is no secrecy. A connection's key is derived from a seed that the
// client sends in the clear. Whoever sees the first bytes of a TCP, UDP or ws://
// connection can read and change all of it, the connect key included. So this package
// refuses such a connection to another machine unless [DialOptions] allow it.
package mmo
