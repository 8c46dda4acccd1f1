// These are the systems that have File. The first example uses File.
//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows

package tokenstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

// This is a command-line program. Its user logs in when the program runs for the first
// time.
func ExampleFile() {
	platform, userLogsIn := examplePlatform()
	defer platform.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) // a real program uses a directory in os.UserConfigDir()
	ctx := context.Background()

	provider, err := shangcloud.New(&oauth2.Config{
		ClientID:    "demo",
		RedirectURL: "http://127.0.0.1/callback",
		Endpoint:    shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 { // the program runs twice
		file, err := tokenstore.NewFile(filepath.Join(dir, "demo", "token.json"))
		if err != nil {
			log.Fatal(err)
		}
		src := provider.StoredTokens(file)
		if _, err := src.TokenContext(ctx); errors.Is(err, oauth2login.ErrLoginRequired) {
			fmt.Println("Please log in.")
			if err := logIn(ctx, provider, src, userLogsIn); err != nil {
				log.Fatal(err)
			}
		}
		user, err := provider.API(src).UserInfo(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("Hello,", user.Nickname)
	}
	if err := provider.Shutdown(ctx); err != nil { // call it at the end of the program
		log.Fatal(err)
	}
	// Output:
	// Please log in.
	// Hello, 小明
	// Hello, 小明
}

func logIn(ctx context.Context, p *shangcloud.Provider, src *oauth2login.TokenSource, userLogsIn func(string) url.Values) error {
	authURL, err := p.StartUnbound(ctx)
	if err != nil {
		return err
	}
	login, err := p.FinishUnbound(ctx, userLogsIn(authURL)) // in a browser, which comes back to 127.0.0.1
	if err != nil {
		return err
	}
	return src.SetToken(ctx, login.Token)
}

// This example encrypts a token for one user of one provider. The inner store can be any
// store.
func ExampleEncrypted() {
	ctx := context.Background()
	key := make([]byte, 32) // a real program loads it from its secrets
	rand.Read(key)
	keys, err := tokenstore.NewKeys(key)
	if err != nil {
		log.Fatal(err)
	}
	row := &tokenstore.Memory{} // or sqlstore's Tokens.User("10001")

	store := tokenstore.Encrypted(row, keys, "shangcloud", "10001")
	if err := store.SaveToken(ctx, &oauth2.Token{AccessToken: "secret"}); err != nil {
		log.Fatal(err)
	}
	tok, err := store.LoadToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.AccessToken)

	_, err = tokenstore.Encrypted(row, keys, "shangcloud", "10002").LoadToken(ctx)
	fmt.Println(err)
	// Output:
	// secret
	// tokenstore: encrypted: the stored token is not this user's at this provider, or was altered
}

// examplePlatform stands for ShangCloud. userLogsIn stands for the user and the browser:
// it returns the query of the callback.
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
