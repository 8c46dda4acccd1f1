// Package redisstore keeps login states and users' tokens in Redis or Valkey, for
// applications on several machines.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true})
//	tokens := redisstore.NewTokens(client)
//	provider, err := oauth2login.New(conf, &oauth2login.Options{States: redisstore.NewStates(client)})
//	src := provider.StoredTokens(tokens.User("10001"))
//
// A FailoverClient (Sentinel) and a ClusterClient work as well. Set ContextTimeoutEnabled.
// Without this option, each call needs an additional goroutine to obey its context.
//
// Tokens are stored as JSON. tokenstore.Encrypted encrypts them before they reach Redis.
//
// docs/redis.md names the commands that a user with an access list needs, and says what
// each call costs, what happens while Redis is down, and what Redis does not promise.
package redisstore
