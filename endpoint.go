// Package shangcloud adds login with ShangCloud, and the ShangCloud API, to applications
// built on [golang.org/x/oauth2]. It does not replace x/oauth2: its functions take and
// return the types of x/oauth2.
//
// Package oauth2login is the engine, for any provider of x/oauth2. This package is
// ShangCloud on top of it: the endpoint, the platform's two quirks, and the API.
//
// # Three ways to use it
//
//   - [New] makes a [Provider] that logs users in on any router: [Provider.StartLogin] in
//     the handler of the login link, [Provider.FinishLogin] in that of the redirect URL.
//     [Provider.DeviceLogin] is for programs without a browser.
//   - [oauth2login.New] does the same for every row of a table of providers, of which
//     ShangCloud is one.
//   - An application that uses plain x/oauth2 adds [Endpoint] to its table, and asks
//     [NewAPI] with the client of [oauth2.Config.Client] who the user is. State, cookie
//     and PKCE are the application's then.
//
// For the guarantees, see package oauth2login. A token is not an identity: call
// [API.UserInfo], and identify accounts by [UserInfo.ID]. It is unknown whether the mail
// address of a user is verified.
package shangcloud

import (
	"strings"

	"golang.org/x/oauth2"
)

// DefaultBaseURL is the address of ShangCloud's public deployment, as given in
// the platform's reference documentation.
const DefaultBaseURL = "https://api.yearnstudio.cn"

// Scopes that ShangCloud knows. The platform joins several with one space, as
// [oauth2.Config] does.
const (
	// ScopeUserBasic is the user's ID, nickname, mail address and avatar. It is
	// the platform's default, and this library's. (Reference documentation.)
	ScopeUserBasic = "user:basic"
	// ScopeVariables is the user's cloud variables. (Reference documentation.)
	ScopeVariables = "var:io"
	// ScopeMMO is game rooms. (Seen in the official server-side SDKs.)
	ScopeMMO = "mmo"
	// ScopeOpenID and ScopeProfile ask for the OpenID-style user info. (Seen
	// only in the official game SDKs.)
	ScopeOpenID  = "openid"
	ScopeProfile = "profile"
)

// tokenPath is below the base URL.
const tokenPath = "/oauth/token"

// Endpoint is ShangCloud's OAuth 2.0 endpoint.
//
// It is all that an application with an [oauth2.Config] needs:
//
//	conf := &oauth2.Config{Endpoint: shangcloud.Endpoint, ClientID: …}
//
// The authentication style is set to HTTP Basic, so x/oauth2 never sends an
// authorization code twice to find it out. A public client, one without a
// secret, sets AuthStyle to [oauth2.AuthStyleInParams] instead. For a client ID
// or secret with characters other than A–Z a–z 0–9 - . _ ~ use [New]: x/oauth2
// percent-encodes them.
//
// Documentation: the address, /oauth/authorize and /oauth/token are those of the
// platform's reference documentation; the device authorization address is seen
// only in its official game SDKs.
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
