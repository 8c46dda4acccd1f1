// Cluster is examples/weblogin on more than one machine: a copy of it that shares
// the states of logins with the others, so that a login can start at one and come
// back to another.
//
//	cd examples/cluster
//	go run . -addr 127.0.0.1:8081 -states redis://127.0.0.1:6379
//	go run . -addr 127.0.0.1:8082 -states redis://127.0.0.1:6379
//
// In front of them is a proxy, whose address is in SHANGCLOUD_REDIRECT_URL. All
// copies need the same settings; they are those of examples/weblogin, and have to
// be set here: two platforms of their own would not do.
//
// -states is one of
//
//	redis://…              Redis or Valkey
//	postgres://…           PostgreSQL; the table is made if it is missing
//	sealed                 no server: with SHANGCLOUD_STATE_KEYS, 32 bytes in base64,
//	                       several with commas between them (openssl rand -base64 32)
//	memory                 nothing is shared: to see what goes wrong
//
// Sessions are not part of this library, and those of this demo are in each copy's
// own memory: behind a proxy that sends every request to another copy a user is
// logged in at one of them. An application shares its sessions as well.
package main

import (
	"context"
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
	addr := flag.String("addr", "127.0.0.1:8081", "`host:port` to listen on")
	states := flag.String("states", "", "where states are: redis://…, postgres://…, sealed, or memory")
	flag.Parse()
	if err := run(serve.Signal(), *addr, *states); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, states string) error {
	if os.Getenv("SHANGCLOUD_CLIENT_ID") == "" {
		return errors.New("SHANGCLOUD_CLIENT_ID is not set: copies of one application are at the same platform")
	}
	share, err := sharing(ctx, states)
	if err != nil {
		return err
	}
	return webapp.Run(ctx, addr, os.Getenv, os.Stdout, share)
}

// sharing returns the options for -states. What it opens stays open until the program
// ends.
func sharing(ctx context.Context, states string) (*oauth2login.Options, error) {
	kind, _, _ := strings.Cut(states, ":")
	switch kind {
	case "redis", "rediss":
		options, err := redis.ParseURL(states)
		if err != nil {
			return nil, errors.New("-states: not the URL of a Redis") // it may hold a password
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
		keys, err := parseKeys(os.Getenv("SHANGCLOUD_STATE_KEYS"))
		return &oauth2login.Options{StateKeys: keys}, err
	case "memory":
		return nil, nil
	}
	return nil, fmt.Errorf("-states: %q is none of redis://…, postgres://…, sealed, memory", kind)
}

func parseKeys(list string) (keys [][]byte, err error) {
	for text := range strings.SplitSeq(list, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(key) != 32 {
			return nil, errors.New("SHANGCLOUD_STATE_KEYS: not 32 bytes in base64, or several with commas between them")
		}
		keys = append(keys, key)
	}
	return keys, nil
}
