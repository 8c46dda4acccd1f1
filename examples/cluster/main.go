// Cluster runs several copies of examples/weblogin, which share the states of logins. A
// login starts at one copy and comes back to another.
//
//	go -C examples/cluster run . [-addr 127.0.0.1:8080] [-states sealed]
//
// It needs no account and no network: without settings, two copies and a platform are in
// this process. Every login starts at the first copy and ends at the second.
//
// With the settings of examples/weblogin, the program is one copy and uses the real
// platform. Run it on each machine with the same settings, behind a proxy.
// SHANGCLOUD_REDIRECT_URL has the address of the proxy.
//
// -states says where the copies keep the states:
//
//	sealed                 in the browser's cookie. SHANGCLOUD_STATE_KEYS has a key of
//	                       32 bytes in base64 (openssl rand -base64 32), or several with
//	                       commas between them. Without settings, the program makes a key.
//	redis://…              in Redis or Valkey
//	postgres://…           in PostgreSQL; the program creates the table if it is missing
//	memory                 in the memory of each copy, to show what goes wrong
//
// This library does not handle sessions. In this demo, each copy keeps its sessions in
// its own memory. A user is signed in at one copy only, and seems to be signed out when
// the proxy chooses another copy. A real application shares its sessions as well.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/webapp"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 is a free one")
	states := flag.String("states", "sealed", "where states are: sealed, redis://…, postgres://…, or memory")
	flag.Parse()
	if err := run(serve.Signal(), *addr, *states); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, states string) error {
	share, err := sharing(ctx, states)
	if err != nil {
		return err
	}
	return webapp.RunCopies(ctx, addr, os.Getenv, os.Stdout, share)
}

// sharing returns the options for -states. Connections that it opens stay open until the
// program ends.
func sharing(ctx context.Context, states string) (*oauth2login.Options, error) {
	kind, _, _ := strings.Cut(states, ":")
	switch kind {
	case "redis", "rediss":
		options, err := redis.ParseURL(states)
		if err != nil {
			return nil, errors.New("-states: not the URL of a Redis") // the URL may contain a password: do not print it
		}
		options.ContextTimeoutEnabled = true
		return &oauth2login.Options{States: redisstore.NewStates(redis.NewClient(options))}, nil
	case "postgres", "postgresql":
		db, err := sql.Open("pgx", states)
		if err != nil {
			return nil, errors.New("-states: not the URL of a PostgreSQL database")
		}
		store, err := sqlstore.NewStates(db, sqlstore.PostgreSQL, sqlstore.Config{})
		if err != nil {
			return nil, err
		}
		return &oauth2login.Options{States: store}, store.CreateTable(ctx)
	case "sealed":
		keys, err := stateKeys()
		return &oauth2login.Options{StateKeys: keys}, err
	case "memory":
		return nil, nil
	}
	return nil, fmt.Errorf("-states: %q is none of sealed, redis://…, postgres://…, memory", kind)
}

// stateKeys returns the keys of SHANGCLOUD_STATE_KEYS. If SHANGCLOUD_STATE_KEYS and
// SHANGCLOUD_CLIENT_ID are both empty, it returns a random key, which all copies in this
// process share.
func stateKeys() (keys [][]byte, err error) {
	list := os.Getenv("SHANGCLOUD_STATE_KEYS")
	if list == "" && os.Getenv("SHANGCLOUD_CLIENT_ID") == "" {
		key := make([]byte, 32)
		rand.Read(key)
		return [][]byte{key}, nil
	}
	for text := range strings.SplitSeq(list, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(key) != 32 {
			return nil, errors.New("SHANGCLOUD_STATE_KEYS: not 32 bytes in base64, or several with commas between them")
		}
		keys = append(keys, key)
	}
	return keys, nil
}
