// Package state keeps one-time login states: what an application has to
// remember between sending a browser to ShangCloud and seeing it come back.
//
// A login stores one entry when it starts and takes it out once when the
// browser returns. An entry that was taken, has expired, or was never there
// looks the same: it is not found, and the login is refused.
//
// [Memory] serves one process. Applications on several machines share a store
// with a server behind it; any type with the two methods of [Store] will do.
// Package statetest holds it to the contract.
package state

import (
	"context"
	"time"
)

// Store keeps values for a short time and gives each of them out once.
//
// It mentions types of the standard library only, so a type can implement it
// without importing this package. All methods must be safe for concurrent use
// and must return soon after ctx is done.
//
// The callers of this library pass keys of at most 64 ASCII letters, digits,
// '-' and '_', and values of a few kilobytes. What else a store can't keep apart it
// refuses with an error. Keys and values are secrets: an implementation must not
// log them, nor put them into the text of an error.
type Store interface {
	// Put stores value under key, to be found by Take until ttl has passed.
	// A value already stored under key is replaced. A ttl of zero or less
	// stores nothing that can be found. The store may keep value itself: the
	// caller does not change it afterwards.
	//
	// When Put returns an error, the value may or may not have been stored.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Take removes the value under key and returns it. A value that is not
	// there, has been taken or has expired is reported with found == false
	// and a nil error; an error means that the store could not tell.
	//
	// Take is atomic: of any number of concurrent calls for one key, from
	// any number of machines, at most one finds it.
	Take(ctx context.Context, key string) (value []byte, found bool, err error)
}
