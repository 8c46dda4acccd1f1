// Refresh refreshes the token in a file. Its log goes to standard error.
//
// Usage: refresh file platform
package main

import (
	"log"
	"os"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

func main() {
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret", RedirectURL: "http://127.0.0.1:8080/callback", Endpoint: shangcloud.EndpointAt(os.Args[2]),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	file, err := tokenstore.NewFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if _, err := provider.StoredTokens(file).Token(); err != nil {
		log.Fatal(err)
	}
}
