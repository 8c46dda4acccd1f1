package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
)

func ExampleNewStates() {
	db, err := sql.Open("pgx", "postgres://app@db/app") // with the driver of your choice
	if err != nil {
		fmt.Println(err)
		return
	}
	states, err := sqlstore.NewStates(db, sqlstore.PostgreSQL, sqlstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(states.Schema())
	// Pass the store as oauth2login.Options.States.
}

// tests/example_test.go in the repository is a whole program with SQLite.
func ExampleNewTokens() {
	db, err := sql.Open("pgx", "postgres://app@db/app") // with the driver of your choice
	if err != nil {
		fmt.Println(err)
		return
	}
	tokens, err := sqlstore.NewTokens(db, sqlstore.PostgreSQL, sqlstore.Config{Table: "auth.tokens"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := tokens.CreateTable(context.Background()); err != nil { // or run tokens.Schema() yourself
		fmt.Println(err)
		return
	}
	store := tokens.User("10001") // for oauth2login.Provider.StoredTokens
	fmt.Println(store)
}
