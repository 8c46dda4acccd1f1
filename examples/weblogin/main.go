// Weblogin is a small web application with a login: sign in with ShangCloud, see who you
// are, change your cloud variables, sign out.
//
//	go run ./examples/weblogin [-addr 127.0.0.1:8080]
//
// It needs no account and no network: without settings, the program runs a stand-in for
// ShangCloud itself. These settings select the real platform:
//
//	SHANGCLOUD_CLIENT_ID      the application's ID, from the developer console
//	SHANGCLOUD_CLIENT_SECRET  its secret
//	SHANGCLOUD_REDIRECT_URL   as registered; if unset, http://127.0.0.1:PORT/callback
//	SHANGCLOUD_BASE_URL       another deployment; if unset, the public one
//	SHANGCLOUD_DATA_DIR       a folder for sessions and tokens, so that a restart signs
//	                          nobody out; if unset, they are in memory
//
// The file examples/internal/webapp/login.go has what every application with a login
// needs: [shangcloud.New], StartLogin, FinishLogin, UserInfo. The rest is an ordinary web
// application. examples/cluster runs several copies of it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/webapp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 is a free one")
	flag.Parse()
	if err := webapp.Run(serve.Signal(), *addr, os.Getenv, os.Stdout, nil); err != nil {
		fmt.Fprintln(os.Stderr, "weblogin:", err)
		os.Exit(1)
	}
}
