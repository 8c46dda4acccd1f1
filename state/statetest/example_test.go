package statetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/statetest"
)

// mapStore is an example of an application's own store. Unlike state.Memory, it never
// removes the entries of unfinished logins.
type mapStore struct{ server *mapServer }

// mapServer stands for a server.
type mapServer struct {
	mu      sync.Mutex
	entries map[string]mapEntry
}

type mapEntry struct {
	value []byte
	ends  time.Time
}

// Format keeps package fmt from printing the entries.
func (mapStore) Format(f fmt.State, _ rune) { fmt.Fprint(f, "a store of states") }

func (s mapStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.entries[key] = mapEntry{value, time.Now().Add(ttl)}
	return nil
}

func (s mapStore) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	e, found := s.server.entries[key]
	delete(s.server.entries, key)
	if !found || !time.Now().Before(e.ends) {
		return nil, false, nil
	}
	return e.value, true, nil
}

// testMapStore stands for a test of an application. There, its name would be TestMapStore.
func testMapStore(t *testing.T) {
	statetest.Run(t, statetest.Backend{
		Open: func(*testing.T) (a, b state.Store) {
			server := &mapServer{entries: make(map[string]mapEntry)} // a new table
			return mapStore{server}, mapStore{server}                // as if each had its own connection
		},
	})
}

// An application calls statetest.Run in a test, and go test reports the result. So this
// example has no output.
func ExampleRun() {
	var t *testing.T // of func TestMapStore(t *testing.T)
	testMapStore(t)
}
