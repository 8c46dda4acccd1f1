//go:build unported

package shangcloud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"golang.org/x/oauth2"
)

// usersTable stands for an application's own table of users, which has a column
// for the token.
type usersTable struct {
	mu     sync.Mutex
	tokens map[int64][]byte
}

// userToken is one row of it: a TokenStore.
type userToken struct {
	table *usersTable
	uid   int64
}

var _ shangcloud.TokenStore = userToken{}

func (u userToken) LoadToken(context.Context) (*oauth2.Token, error) {
	u.table.mu.Lock() // SELECT token FROM users WHERE uid = ?
	defer u.table.mu.Unlock()
	data, ok := u.table.tokens[u.uid]
	if !ok {
		return nil, nil
	}
	tok := new(oauth2.Token)
	return tok, json.Unmarshal(data, tok)
}

func (u userToken) SaveToken(_ context.Context, tok *oauth2.Token) error {
	data, err := json.Marshal(tok)
	if err != nil {
		return err
	}
	u.table.mu.Lock() // UPDATE users SET token = ? WHERE uid = ?
	defer u.table.mu.Unlock()
	u.table.tokens[u.uid] = data
	return nil
}

// A user's token in the application's own table: what the reference SDK calls
// custom User persistence.
func ExampleTokenStore() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider, err := shangcloud.New(shangcloud.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: "https://app.example/callback",
		BaseURL:     platform.URL,
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	users := &usersTable{tokens: make(map[int64][]byte)}

	// After the login, whose token expires at once: save it.
	access, refresh := platform.Issue("demo", 10001, shangcloud.ScopeUserBasic)
	login := &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Second)}
	if err := (userToken{users, 10001}).SaveToken(ctx, login); err != nil {
		log.Fatal(err)
	}

	// Later, in any process: the token comes from the table, is refreshed if it
	// is due, and goes back to the table before it is used.
	src := provider.TokenSource(nil, userToken{users, 10001})
	user, err := provider.API(src).UserInfo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	saved, err := (userToken{users, 10001}).LoadToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Nickname, saved.RefreshToken != refresh, shangcloud.Expired(saved))
	// Output: 小明 true false
}
