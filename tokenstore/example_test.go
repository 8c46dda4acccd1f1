package tokenstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

// A command-line program: the user logs in when it runs for the first time.
func ExampleFile() {
	platform, userLogsIn := examplePlatform()
	defer platform.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) // in earnest, a directory in os.UserConfigDir()
	ctx := context.Background()

	program := func() error {
		provider, err := shangcloud.New(shangcloud.Config{
			ClientID:    "demo",
			RedirectURL: "http://127.0.0.1/callback",
			BaseURL:     platform.URL, // leave out for ShangCloud itself
		})
		if err != nil {
			return err
		}
		file, err := tokenstore.NewFile(filepath.Join(dir, "demo", "token.json"))
		if err != nil {
			return err
		}
		src := provider.TokenSource(nil, file)
		if _, err := src.TokenContext(ctx); errors.Is(err, shangcloud.ErrLoginRequired) {
			fmt.Println("Please log in.")
			authURL, err := provider.AuthCodeURL(ctx)
			if err != nil {
				return err
			}
			back := userLogsIn(authURL) // in a browser, which comes back to 127.0.0.1
			tok, err := provider.Exchange(ctx, back.Get("state"), back.Get("code"))
			if err != nil {
				return err
			}
			if err := src.SetToken(ctx, tok); err != nil {
				return err
			}
		}
		user, err := provider.API(src).UserInfo(ctx)
		if err != nil {
			return err
		}
		fmt.Println("Hello,", user.Nickname)
		return nil
	}
	for range 2 {
		if err := program(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// Please log in.
	// Hello, 小明
	// Hello, 小明
}

// Logging out. The lock lets a refresh that another process has begun end first:
// otherwise that would save its token afterwards.
func ExampleFile_SaveToken_logout() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	file, err := tokenstore.NewFile(filepath.Join(dir, "token.json"))
	if err != nil {
		log.Fatal(err)
	}
	if err := file.SaveToken(ctx, &oauth2.Token{AccessToken: "secret"}); err != nil {
		log.Fatal(err)
	}

	unlock, err := file.LockToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	if err := file.SaveToken(ctx, nil); err != nil {
		log.Fatal(err)
	}
	tok, err := file.LoadToken(ctx)
	fmt.Println(tok == nil, err)
	// Output: true <nil>
}

// examplePlatform stands in for ShangCloud, and userLogsIn for the user and the
// browser: it returns the query that the browser comes back with.
func examplePlatform() (platform *shangcloudtest.Server, userLogsIn func(authURL string) url.Values) {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	platform.AddClient(shangcloudtest.Client{ID: "demo", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	return platform, func(authURL string) url.Values {
		back, err := platform.Approve(authURL, 10001)
		if err != nil {
			log.Fatal(err)
		}
		u, err := url.Parse(back)
		if err != nil {
			log.Fatal(err)
		}
		return u.Query()
	}
}
