// Package mmotest is the realtime edge of ShangCloud's rooms in one process: for tests of
// games and bots, for load tests, and for demonstrations without an account. It listens on
// this machine over TCP, WebSocket and UDP.
//
//	edge := mmotest.NewEdge(t)
//	edge.Admit("room", "key", "10001")
//	url, protocol := edge.URL("tcp") // the platform's edge_url and protocol
//
// With shangcloudtest, the platform's calls about rooms lead to the edge:
//
//	platform.SetEdge(edge)
//
// A program uses [Start]. In a testing/synctest bubble use [New] and [Edge.DialContext]:
// time-outs then pass at once. [Edge.SetFaults] makes the network unreliable, [Edge.Cut]
// breaks a connection, [Edge.Send] sends anything in the name of the edge, and
// [Edge.Configure] changes the clock and the heartbeats. [Edge.Stats] counts what was
// refused.
//
// # Choices
//
// The platform's protocol note and the official clients leave the following open. A client
// must not rely on it.
//
//   - Three kinds of payload are dropped, and the connection stays: one that does not
//     decrypt, one whose time is more than 20 seconds from the edge's clock, and one whose
//     nonce the connection used in this time. In a login each of them ends the connection.
//     Over UDP such a login has no answer.
//   - Only a heartbeat counts as a sign of life. After 15 seconds without one the edge sends
//     __closed__ and ends the connection. It answers each heartbeat with a heartbeat.
//   - A connect key has at most 256 bytes, is good for one connection, and does not expire.
//     Of unused keys the edge keeps the newest 100,000.
//   - A message is relayed unchanged to all others in the room. Control messages (in upper
//     and lower case), empty messages and __leave__ are not relayed.
//   - The edge believes what a member announces about itself. The list of members has each
//     uid once, in the order of the announcements. Connections that announced nothing are
//     neither in the list nor in its number. An announcement of more than 4 KiB is relayed,
//     but not listed.
//   - __leave__ is sent when no connection with an announced uid is left.
//   - If the list of members does not fit in one message, the edge sends null instead. A
//     client then keeps the list that it has.
//   - A client that reads too slowly loses its connection, without __closed__, when more
//     than 4 MiB wait for it. A message that does not fit in a datagram does not reach
//     members over UDP.
//   - A kicked member gets __closed__. So do all members when a room or the edge is closed.
//     Over UDP it is sent once.
//   - A connection over TCP has 10 seconds to log in, and one second to read the rest when
//     the edge ends it. The edge serves 20,000 clients, and 4,096 connections that have not
//     logged in. It closes any further connection.
package mmotest
