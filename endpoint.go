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

// Endpoint is ShangCloud's OAuth 2.0 endpoint.
//
// It is all that an application with an [oauth2.Config] needs:
//
//	conf := &oauth2.Config{Endpoint: shangcloud.Endpoint, ClientID: …}
//
// The authentication style is set to HTTP Basic, so x/oauth2 never sends an
// authorization code twice to find it out. A public client, one without a
// secret, sets AuthStyle to [oauth2.AuthStyleInParams] instead. For a client ID
// or secret with characters other than A–Z a–z 0–9 - . _ ~ see
// [Provider.ClientContext].
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
		TokenURL:      base + "/oauth/token",
		DeviceAuthURL: base + "/oauth/device_authorization",
		AuthStyle:     oauth2.AuthStyleInHeader,
	}
}
