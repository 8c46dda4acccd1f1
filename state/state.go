// Package state stores one-time login states. A login state is the data that an
// application needs when a browser returns from a login provider.
//
// A login stores one entry when it starts and takes it once when the browser returns. If
// the entry was taken, has expired or never existed, it is not found, and the login is
// refused.
//
// [Memory] serves one process. Applications that run as several processes share a store on
// a server, for example in a database. Any type that implements [Store] can be used.
// Package statetest tests such a type.
package state

import (
	"context"
	"time"
)

// Store keeps values for a short time and returns each of them once.
//
// A type can implement Store without importing this package. All methods must be safe for
// concurrent use. They must return soon after ctx is done.
//
// This library passes keys of at most 64 ASCII letters, digits, '-' and '_', and values of
// a few kilobytes. A store must not confuse two different keys. If it cannot distinguish
// all keys, it must return an error for the keys that it does not support. Keys and values
// are secrets: a store must not log them or quote them in an error.
type Store interface {
	// Put stores value under key until ttl has passed. It replaces the value
	// that is already stored under key. If ttl is zero or less, Take will not
	// find the value. The store may keep the slice without copying it, so the
	// caller must not change it afterwards.
	//
	// When Put returns an error, the value may or may not have been stored.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Take removes the value under key and returns it. If the value does not
	// exist, was taken or has expired, found is false and the error is nil. An
	// error means that the store does not know whether the value exists.
	//
	// Take is atomic: if several calls for one key run at the same time, on any
	// number of machines, at most one of them finds the value.
	Take(ctx context.Context, key string) (value []byte, found bool, err error)
}
