// Package mmo speaks ShangCloud's rooms: the eight calls of the HTTP API, and the realtime
// connection to a room's edge.
//
// Without wss:// there is no secrecy. A connection's key is derived from a seed that the
// client sends in the clear. Whoever sees the first bytes of a TCP, UDP or ws://
// connection can read and change all of it, the connect key included. So this package
// refuses such a connection to another machine unless [DialOptions] allow it.
//
// # From a token to a room
//
// [NewClient] makes the calls with a [shangcloud.API] whose token has the scope mmo.
// [Client.Create] and [Client.Join] return a [Room], which is good for one connection.
// [Room.Dial] connects to its edge. The [Conn] has Read for events, and Send, Broadcast and
// SetVars for the others in the room. [Session] joins and dials again when a connection is
// lost. No official client does that.
//
//	room, err := mmo.NewClient(api).Join(ctx, roomID, mmo.ProtocolWebSocket)
//	conn, err := room.Dial(ctx, &mmo.DialOptions{UID: "10001", Nickname: "bot"})
//	err = conn.Broadcast(ctx, "hello", "")
//	event, err := conn.Read(ctx)
//
// [Dial] takes an edge URL and a connect key by hand. Package mmotest is an edge for tests.
//
// # What to trust
//
// A uid and a nickname in an event are what a client says about itself. As far as is known,
// the edge does not check them. Escape all text from others before you show it.
//
// The clock of this machine has to be right: the edge refuses messages that are off by more
// than 20 seconds ([ClockError]).
//
// # What is unknown
//
// No live edge was at hand. The protocol is that of the platform's note MMO.md and of the
// official clients for Godot, Unreal and Unity. Unknown are: whether an edge is reached by
// wss:// or ws:// in practice, the port of UDP, how long a connect key lives and whether it
// works twice, what a kicked client is told, and limits of rates. A login over UDP that
// was not answered is repeated with the same connect key; the official clients give up.
package mmo
