package mmo_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// Two clients in the shared test room of an edge in this process. Real applications get a
// Room from [mmo.Client.Create] or [mmo.Client.Join], and call its Dial.
func ExampleDial() {
	edge, err := mmotest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	url, protocol := edge.URL("tcp")
	ctx := context.Background()

	alice, err := mmo.Dial(ctx, protocol, url, mmotest.TestRoom, &mmo.DialOptions{UID: "1", Nickname: "Alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := mmo.Dial(ctx, protocol, url, mmotest.TestRoom, &mmo.DialOptions{UID: "2", Nickname: "Bob"})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	if err := bob.Broadcast(ctx, "hello", ""); err != nil {
		log.Fatal(err)
	}

	for {
		event, err := alice.Read(ctx)
		if err != nil {
			log.Fatal(err)
		}
		switch event := event.(type) {
		case mmo.Members:
			fmt.Println("here:", event.Count)
		case mmo.MemberJoined:
			fmt.Println("new:", event.Nickname)
		case mmo.Broadcast:
			fmt.Println(event.UID, "says", event.Message)
			return
		}
	}
	// Output:
	// here: 1
	// new: Bob
	// 2 says hello
}

// A bot that stays in a room. It joins again after a lost connection, but not if the edge
// ended the connection on purpose.
func ExampleSession() {
	var client *mmo.Client // from mmo.NewClient
	var roomID string
	errSentAway := errors.New("the edge has ended the connection")

	bot := mmo.Session{
		Join: func(ctx context.Context) (*mmo.Room, error) {
			return client.Join(ctx, roomID, mmo.ProtocolWebSocket)
		},
		Options: &mmo.DialOptions{UID: "10001", Nickname: "bot"},
		Use: func(ctx context.Context, conn *mmo.Conn) error {
			for {
				event, err := conn.Read(ctx)
				switch {
				case errors.Is(err, mmo.ErrClosedByEdge):
					return errSentAway
				case err != nil:
					return err
				}
				if joined, ok := event.(mmo.MemberJoined); ok {
					if err := conn.Broadcast(ctx, "welcome, "+joined.Nickname, ""); err != nil {
						return err
					}
				}
			}
		},
		Waiting: func(err error, pause time.Duration) { log.Printf("%v; again in %v", err, pause) },
	}
	log.Println(bot.Run(context.Background()))
}
