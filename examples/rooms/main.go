// Rooms is a web application in which people draw and talk together, and a bot with them:
// all are members of one ShangCloud room.
//
//	go -C examples/rooms run . [-addr 127.0.0.1:8080] [-plaintext]
//
// Without settings it needs no account and no network: it starts a platform and a realtime
// edge in the same process. Open it in two browsers, as two people.
//
// With the settings of examples/weblogin it uses the real platform. The bot then needs an
// account. So the program prints an address where somebody signs in for the bot. Until then
// the room is not open. With SHANGCLOUD_DATA_DIR, the bot stays signed in after a restart.
// The address of the platform's edge has to begin with wss://. With -plaintext the program
// accepts other addresses, too. Anyone on the network path can then read what people say.
//
// A browser talks only to this program. It posts what its person does, and receives what
// the others do as server-sent events. For each open page, this program joins the room as
// one member.
//
//	seat.go     an open page: from the room to the browser, and back
//	bot.go      the bot: opens the room, and remembers the picture for those who come later
//	message.go  what the members say to each other
//	login.go    sign in, sign out, sessions
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 is a free one")
	plaintext := flag.Bool("plaintext", false, "accept an edge that is not wss://: others can then read and change everything")
	flag.Parse()
	if err := run(serve.Signal(), *addr, *plaintext, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rooms:", err)
		os.Exit(1)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, addr string, plaintext bool, getenv func(string) string, out io.Writer) error {
	settings, err := serve.FromEnv(getenv, shangcloud.ScopeUserBasic, shangcloud.ScopeMMO)
	if err != nil {
		return err
	}
	listener, err := settings.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	isDemo := settings.ClientID == ""
	var botToken *oauth2.Token
	if isDemo {
		stop, token, err := startDemo(&settings)
		if err != nil {
			return err
		}
		defer stop()
		botToken = token
	}

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	a, err := newApp(ctx, settings, isDemo, plaintext)
	if err != nil {
		return err
	}
	if botToken == nil {
		a.bot.restore(ctx)
	} else if err := a.bot.signIn(ctx, botToken); err != nil {
		return err
	}
	running.Go(func() { a.bot.run(ctx) })

	settings.Announce(out, listener, isDemo)
	if !isDemo {
		fmt.Fprintf(out, "Bot       %s (sign in there with the account that the bot may use)\n", a.botURL())
	}
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	return serve.On(ctx, listener, a, a.provider.Shutdown)
}

// startDemo starts a platform with an edge. The bot shares the account of one of the
// people.
func startDemo(settings *serve.Settings) (stop func(), bot *oauth2.Token, err error) {
	edge, err := mmotest.Start("")
	if err != nil {
		return nil, nil, err
	}
	platform, err := settings.StartDemo("rooms")
	if err != nil {
		edge.Close()
		return nil, nil, err
	}
	platform.SetEdge(edge)
	return func() { edge.Close(); platform.Close() }, issue(platform, demo.People[len(demo.People)-1].ID), nil
}

func issue(platform *shangcloudtest.Server, uid int64) *oauth2.Token {
	access, refresh := platform.Issue("rooms", uid, shangcloud.ScopeMMO)
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}
}

// botTokens keeps the token of the bot in a file if there is a folder for it.
func botTokens(provider *shangcloud.Provider, dataDir string) (*oauth2login.TokenSource, error) {
	if dataDir == "" {
		return provider.StoredTokens(new(tokenstore.Memory)), nil
	}
	file, err := tokenstore.NewFile(filepath.Join(dataDir, "bot.token"))
	if err != nil {
		return nil, err
	}
	return provider.StoredTokens(file), nil
}
