// Package sqlstore keeps login states and users' tokens in a database that several
// processes share.
//
//	db, err := sql.Open("pgx", dsn)
//	states, err := sqlstore.NewStates(db, sqlstore.PostgreSQL, sqlstore.Config{})
//	tokens, err := sqlstore.NewTokens(db, sqlstore.PostgreSQL, sqlstore.Config{})
//	err = errors.Join(states.CreateTable(ctx), tokens.CreateTable(ctx))
//	…
//	provider, err := oauth2login.New(conf, &oauth2login.Options{States: states})
//	src := provider.StoredTokens(tokens.User("10001"))
//
// The application chooses the driver: pgx, lib/pq, go-sql-driver/mysql and
// modernc.org/sqlite are tested. The two stores can share a pool, and they can be in
// different databases.
//
// Tokens are stored as JSON. tokenstore.Encrypted encrypts them before they reach the
// database.
//
// docs/sql.md describes the lock on a token, what each call costs, what happens while
// the database is down, and the settings for PgBouncer.
package sqlstore
