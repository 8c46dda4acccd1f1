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

	// The login starts: keep the data that is needed when the browser returns.
	if err := states.Put(ctx, "kT3vyN8Qe", []byte("/settings"), 5*time.Minute); err != nil {
		fmt.Println(err)
		return
	}

	// The browser returns. Then somebody uses the same state again.
	for range 2 {
		value, found, err := states.Take(ctx, "kT3vyN8Qe")
		fmt.Printf("%q %v %v\n", value, found, err)
	}
	// Output:
	// "/settings" true <nil>
	// "" false <nil>
}
