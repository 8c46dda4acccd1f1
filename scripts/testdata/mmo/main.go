// A program that uses the module mmo alone, as it was released: two users meet in a room of
// a platform in this process.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"golang.org/x/oauth2"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer platform.Close()
	edge, err := mmotest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	platform.SetEdge(edge)
	platform.AddClient(shangcloudtest.Client{ID: "game", Secret: "s3cret"})
	if err := meet(ctx, user(ctx, platform, 10001), user(ctx, platform, 10002)); err != nil {
		log.Fatal(err)
	}
}

func user(ctx context.Context, platform *shangcloudtest.Server, uid int64) *mmo.Client {
	platform.AddUser(shangcloudtest.User{ID: uid})
	access, _ := platform.Issue("game", uid, shangcloud.ScopeMMO)
	client := oauth2.NewClient(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access}))
	return mmo.NewClient(shangcloud.NewAPI(client, shangcloud.WithBaseURL(platform.URL)))
}

// meet lets one user say something and another one hear it.
func meet(ctx context.Context, owner, guest *mmo.Client) error {
	room, err := owner.Create(ctx, mmo.ProtocolWebSocket)
	if err != nil {
		return err
	}
	hears, err := room.Dial(ctx, &mmo.DialOptions{UID: "10001"})
	if err != nil {
		return err
	}
	defer hears.Close()
	if room, err = guest.Join(ctx, room.ID, mmo.ProtocolTCP); err != nil {
		return err
	}
	says, err := room.Dial(ctx, &mmo.DialOptions{UID: "10002"})
	if err != nil {
		return err
	}
	defer says.Close()
	said := mmo.Broadcast{UID: "10002", Message: "你好"}
	if err := says.Broadcast(ctx, said.Message, ""); err != nil {
		return err
	}
	for {
		event, err := hears.Read(ctx)
		if err != nil {
			return err
		}
		if heard, ok := event.(mmo.Broadcast); ok {
			if heard != said {
				return errors.New(fmt.Sprint("heard ", heard))
			}
			return nil
		}
	}
}
