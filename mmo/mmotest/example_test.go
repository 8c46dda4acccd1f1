package mmotest_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// Two clients meet in a room. One loses its connection.
func Example() {
	edge, err := mmotest.Start("") // in a test: mmotest.NewEdge(t)
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	ctx := context.Background()
	join := func(key, uid string) *mmo.Conn {
		edge.Admit("room", key, uid)
		url, protocol := edge.URL("websocket")
		conn, err := mmo.Dial(ctx, protocol, url, key, nil)
		if err != nil {
			log.Fatal(err)
		}
		return conn
	}
	ann, bob := join("key of Ann", "10001"), join("key of Bob", "10002")
	defer ann.Close()
	defer bob.Close()

	if err := ann.Send(ctx, "hello"); err != nil {
		log.Fatal(err)
	}
	for {
		event, err := bob.Read(ctx)
		if text, ok := event.(mmo.Text); ok {
			fmt.Println(text)
			edge.Cut("room", "10002")
		}
		if err != nil {
			fmt.Println("lost:", errors.Is(err, mmo.ErrNoConnection))
			return
		}
	}
	// Output:
	// hello
	// lost: true
}
