package redisstore_test

import (
	"log"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"
)

func Example() {
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                 []string{"redis:6379"}, // several addresses mean a Cluster; MasterName means Sentinel
		ContextTimeoutEnabled: true,
	})
	tokens := redisstore.NewTokens(client)
	provider, err := oauth2login.New(&oauth2.Config{
		ClientID:     "id",
		ClientSecret: "secret",
		RedirectURL:  "https://app.example/callback",
		Endpoint:     endpoints.GitLab,
	}, &oauth2login.Options{States: redisstore.NewStates(client)})
	if err != nil {
		log.Fatal(err)
	}
	_ = provider.StoredTokens(tokens.User("10001")) // on any machine
}
