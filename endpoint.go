// Package shangcloud adds login with ShangCloud, and the ShangCloud API, to applications
// built on [golang.org/x/oauth2]. It does not replace x/oauth2: its functions take and
// return the types of x/oauth2.
//
// Package oauth2login implements the login for any provider that x/oauth2 supports. This
// package adds the parts that are specific to ShangCloud: the endpoint, two settings for
// the platform (see [New]), and the API.
//
// # Three ways to use it
//
//   - [New] makes a [Provider], which works with any router. The handler of the login link
//     calls [Provider.StartLogin]. The handler of the redirect URL calls
//     [Provider.FinishLogin]. A program without a browser calls [Provider.DeviceLogin].
//   - [oauth2login.New] makes a provider for any platform. Use it if the application has a
//     table of providers, and ShangCloud is one of them.
//   - An application that uses plain x/oauth2 adds [Endpoint] to its table of providers. It
//     passes the client of [oauth2.Config.Client] to [NewAPI], and asks the API who the user
//     is. Then the application itself must handle state, cookie and PKCE.
//
// For the guarantees, see package oauth2login. A token does not identify a user: call
// [API.UserInfo], and identify accounts by [UserInfo.ID]. It is unknown whether a user's
// mail address is verified.
package shangcloud

import (
	"strings"

	"golang.org/x/oauth2"
)

// DefaultBaseURL is the address of ShangCloud's public deployment, as given in
// the platform's reference documentation.
const DefaultBaseURL = "https://api.yearnstudio.cn"

// Scopes of ShangCloud. A request with several scopes separates them by one space, as
// [oauth2.Config] does.
const (
	// ScopeUserBasic gives access to the user's ID, nickname, mail address and avatar. It
	// is the default of the platform and of this library. (Reference documentation.)
	ScopeUserBasic = "user:basic"
	// ScopeVariables gives access to the user's cloud variables. (Reference documentation.)
	ScopeVariables = "var:io"
	// ScopeMMO gives access to game rooms. (Seen in the official server-side SDKs.)
	ScopeMMO = "mmo"
	// ScopeOpenID and ScopeProfile ask for the OpenID-style user info. (Seen
	// only in the official game SDKs.)
	ScopeOpenID  = "openid"
	ScopeProfile = "profile"
)

// tokenPath is the path of the token endpoint below the base URL.
const tokenPath = "/oauth/token"

// Endpoint is ShangCloud's OAuth 2.0 endpoint.
//
// It is all that an application with an [oauth2.Config] needs:
//
//	conf := &oauth2.Config{Endpoint: shangcloud.Endpoint, ClientID: …}
//
// AuthStyle is set to HTTP Basic. Without AuthStyle, x/oauth2 would try both styles, and
// could send an authorization code twice. A public client (a client without a secret) sets
// AuthStyle to [oauth2.AuthStyleInParams] instead. If the client ID or the secret has
// characters other than A–Z a–z 0–9 - . _ ~, use [New]: x/oauth2 would percent-encode these
// characters.
//
// The base URL, /oauth/authorize and /oauth/token are in the platform's reference
// documentation. The device authorization address is not: only the official game SDKs use
// it.
var Endpoint = EndpointAt(DefaultBaseURL)

// EndpointAt returns the OAuth 2.0 endpoint of a ShangCloud deployment at
// baseURL: staging, self-hosted, or a test server. A trailing slash does not
// matter. EndpointAt does not check baseURL; [New] does.
func EndpointAt(baseURL string) oauth2.Endpoint {
	base := strings.TrimRight(baseURL, "/")
	return oauth2.Endpoint{
		AuthURL:       base + "/oauth/authorize",
		TokenURL:      base + tokenPath,
		DeviceAuthURL: base + "/oauth/device_authorization",
		AuthStyle:     oauth2.AuthStyleInHeader,
	}
}
