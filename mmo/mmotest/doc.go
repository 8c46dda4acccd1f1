// Package mmotest is the realtime edge of ShangCloud's rooms in one process: for tests of
// games and bots, for load tests, and for demonstrations without an account. It serves
// real sockets on this machine: TCP, WebSocket and UDP.
//
//	edge := mmotest.NewEdge(t)
//	edge.Admit("room", "key", "10001")
//	url, protocol := edge.URL("tcp") // what the platform answers as edge_url and protocol
//
// An [Edge] is also what shangcloudtest's rooms need, so that Create and Join lead to it:
//
//	platform.SetEdge(edge)
//
// A program uses [Start]. In a testing/synctest bubble use [New] and [Edge.DialContext]:
// then a time-out takes no time. [Edge.SetFaults] makes the network bad, [Edge.Cut] breaks a
// connection, [Edge.Send] says in the name of the edge whatever a test wants, and
// [Edge.Configure] changes the clock and the details in which platforms differ.
//
// # What it does where the platform is unknown
//
// The protocol note of the platform and its clients leave the following open. A client
// must not rely on it.
//
//   - A payload that does not decrypt is dropped, and the connection stays. So is one whose
//     time is more than 20 seconds from the clock of the edge, and one whose nonce was used
//     on the connection within this time. In a login all three end the connection; over UDP
//     there is no answer.
//   - Only the heartbeat counts as a sign of life. After [Settings].HeartbeatTimeout without
//     one the edge says __closed__ and ends the connection. It answers heartbeats with a
//     heartbeat.
//   - A connect key has at most 256 bytes, is good for one connection, and does not expire
//     by time.
//   - A message reaches all others in the room as it is. Not relayed are control messages
//     in any case of letters, empty messages, and __leave__, which only the edge says.
//   - The edge believes what a member announces about itself. The list of members names
//     each uid once, in the order of the announcements. Connections that announced nothing are
//     neither listed nor counted. An announcement of more than 4 KiB is relayed, but not
//     remembered.
//   - __leave__ is said when the last connection with an announced uid ends, or announces
//     another uid.
//   - A list of members that is too long for one message is null; clients then keep
//     the list that they have.
//   - A receiver that does not keep up, with more than about 4 MiB waiting for it,
//     loses its connection without a word. A message that is too long for a datagram is
//     lost to members over UDP.
//   - A kicked member is told __closed__, like all members when a room or the edge is closed.
//     Over UDP it is said once.
package mmotest
