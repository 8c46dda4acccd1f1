package tokenstoretest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"golang.org/x/oauth2"
)

// row is an example of an application's own store. It holds one user's token.
type row struct{ table *table }

// table stands for a database table that stores the token as bytes.
type table struct {
	mu   sync.Mutex
	data []byte
}

// Format keeps package fmt from printing the token.
func (row) Format(f fmt.State, _ rune) { fmt.Fprint(f, "a token's row") }

func (r row) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if r.table.data == nil {
		return nil, nil
	}
	return tokenstore.Unmarshal(r.table.data)
}

func (r row) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	data, err := tokenstore.Marshal(tok)
	if err != nil {
		return err
	}
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.data = data
	return nil
}

func (r row) DeleteToken(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.data = nil
	return nil
}

// testRow stands for a test of an application. There, its name would be TestRow.
func testRow(t *testing.T) {
	tokenstoretest.Run(t, tokenstoretest.Backend{
		Open: func(*testing.T) (a, b oauth2login.TokenStore) {
			users := new(table)           // with a new user
			return row{users}, row{users} // as if each had its own connection
		},
		Extra: true, // tokenstore.Marshal keeps scope and id_token
	})
}

// An application calls tokenstoretest.Run in a test, and go test reports the result. So
// this example has no output.
func ExampleRun() {
	var t *testing.T // of func TestRow(t *testing.T)
	testRow(t)
}
