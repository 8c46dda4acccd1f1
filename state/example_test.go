package state_test

import (
	"context"
	"fmt"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

func ExampleMemory() {
	ctx := context.Background()
	states := state.NewMemory(0)

	// When the login starts, store the data that is needed when the browser returns.
	if err := states.Put(ctx, "kT3vyN8Qe", []byte("/settings"), 5*time.Minute); err != nil {
		fmt.Println(err)
		return
	}

	// When the browser returns, take the data. A second use of the same state finds
	// nothing.
	for range 2 {
		value, found, err := states.Take(ctx, "kT3vyN8Qe")
		fmt.Printf("%q %v %v\n", value, found, err)
	}
	// Output:
	// "/settings" true <nil>
	// "" false <nil>
}
