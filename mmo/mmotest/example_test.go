package mmotest_test

import (
	"context"
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

	url, protocol := edge.URL("websocket")
	edge.Admit("room", "key of Ann", "10001")
	ann, err := mmo.Dial(ctx, protocol, url, "key of Ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ann.Close()
	edge.Admit("room", "key of Bob", "10002")
	bob, err := mmo.Dial(ctx, protocol, url, "key of Bob", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	if err := ann.Send(ctx, "hello"); err != nil {
		log.Fatal(err)
	}
	event, err := bob.Read(ctx)
	fmt.Println(event, err)

	edge.Cut("room", "10002")
	_, err = bob.Read(ctx)
	fmt.Println(err != nil)
	// Output:
	// hello <nil>
	// true
}
