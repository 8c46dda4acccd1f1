// This program tests the released module redisstore alone: one login, whose state and
// token are in Redis. It needs redis-server.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := startRedis(ctx)
	err := login(ctx, client)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func login(ctx context.Context, client *redis.Client) error {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		return err
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret",
		RedirectURL: "https://app.example/callback", Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{States: redisstore.NewStates(client)})
	if err != nil {
		return err
	}

	start := httptest.NewRecorder()
	if err := provider.StartLogin(start, httptest.NewRequest("GET", "https://app.example/login", nil)); err != nil {
		return err
	}
	back, err := platform.Approve(start.Header().Get("Location"), 10001)
	if err != nil {
		return err
	}
	callback := httptest.NewRequest("GET", back, nil)
	for _, cookie := range start.Result().Cookies() {
		callback.AddCookie(cookie)
	}
	login, err := provider.FinishLogin(httptest.NewRecorder(), callback)
	if err != nil {
		return err
	}
	tokens := redisstore.NewTokens(client).User("10001")
	if err := provider.StoredTokens(tokens).SetToken(ctx, login.Token); err != nil {
		return err
	}
	user, err := provider.API(provider.StoredTokens(tokens)).UserInfo(ctx)
	if err == nil && user.Nickname != "小云" {
		err = errors.New("the nickname is " + user.Nickname)
	}
	return errors.Join(err, provider.Shutdown(ctx))
}

// startRedis starts a server on a free port, which keeps nothing on the disk.
func startRedis(ctx context.Context) (client *redis.Client, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	server := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		log.Fatal(err) // Debian's package is redis-server
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	for err = client.Ping(ctx).Err(); err != nil; err = client.Ping(ctx).Err() {
		if ctx.Err() != nil {
			stop()
			log.Fatal("redis-server does not answer: ", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return client, stop
}
