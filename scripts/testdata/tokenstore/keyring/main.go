// A program that uses the module tokenstore/keyring alone, as it was released. Where there is
// no keyring, it has to be told so.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	"golang.org/x/oauth2"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		log.Fatal(err)
	}
	err = use(ctx, filepath.Join(dir, "token"))
	_ = os.RemoveAll(dir)
	if unavailable, ok := errors.AsType[*keyring.UnavailableError](err); ok {
		fmt.Println(unavailable)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
}

func use(ctx context.Context, path string) error {
	store, err := keyring.New("shangcloud-oauth2 release", path)
	if err != nil {
		return err
	}
	if err := store.Check(ctx); err != nil {
		return err
	}
	if err := store.SaveToken(ctx, &oauth2.Token{AccessToken: "access"}); err != nil {
		return err
	}
	tok, err := store.LoadToken(ctx)
	if err == nil && (tok == nil || tok.AccessToken != "access") {
		err = errors.New("the token is not the one that was saved")
	}
	return errors.Join(err, store.DeleteToken(ctx))
}
