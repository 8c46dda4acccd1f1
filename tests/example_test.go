package tests

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"golang.org/x/oauth2"
	_ "modernc.org/sqlite"
)

// Users stay logged in when the program restarts: their tokens are in SQLite. With another
// database, only the driver and the dialect are different.
func Example_tokensInSQLite() {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	// program runs the program once. login is nil unless the user has just logged in.
	program := func(login *oauth2.Token) {
		db, err := sql.Open("sqlite", filepath.Join(dir, "app.db"))
		if err != nil {
			log.Fatal(err)
		}
		defer db.Close()
		tokens, err := sqlstore.NewTokens(db, sqlstore.SQLite, sqlstore.Config{})
		if err != nil {
			log.Fatal(err)
		}
		if err := tokens.CreateTable(ctx); err != nil { // does nothing if it exists
			log.Fatal(err)
		}
		provider, err := shangcloud.New(&oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush",
			RedirectURL: "https://app.example/callback",
			Endpoint:    shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
		}, nil)
		if err != nil {
			log.Fatal(err)
		}

		row := tokens.User("10001") // the user's ID, from the session
		if login != nil {
			if err := provider.StoredTokens(row).SetToken(ctx, login); err != nil {
				log.Print(err) // the new token is used all the same, and saved later
			}
		}
		user, err := provider.API(provider.StoredTokens(row)).UserInfo(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.Nickname)
		if err := provider.Shutdown(ctx); err != nil { // call it before the database is closed
			log.Fatal(err)
		}
	}
	access, refresh := platform.Issue("demo", 10001)
	program(&oauth2.Token{AccessToken: access, RefreshToken: refresh})
	program(nil)
	platform.ExpireTokens() // during the night
	program(nil)
	// Output:
	// 小明
	// 小明
	// 小明
}
