package redisstate_test

import (
	"log"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/redisstate"
	"github.com/redis/go-redis/v9"
)

func Example() {
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                 []string{"redis:6379"}, // several: a Cluster; with MasterName: Sentinel
		ContextTimeoutEnabled: true,
	})
	provider, err := shangcloud.New(shangcloud.Config{
		ClientID:     "id",
		ClientSecret: "secret",
		RedirectURL:  "https://app.example/callback",
		States:       redisstate.New(client),
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = provider // StartLogin and FinishLogin, on any machine
}
