package serve

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"golang.org/x/oauth2"
)

// Settings come from the environment: see the comment of examples/weblogin.
type Settings struct {
	oauth2.Config        // without an endpoint: New makes it of BaseURL
	BaseURL       string // of the platform
	DataDir       string // or ""
}

// FromEnv reads the settings from the environment. If none is set, ClientID is empty.
func FromEnv(getenv func(string) string, scopes ...string) (Settings, error) {
	s := Settings{oauth2.Config{
		ClientID:     getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  getenv("SHANGCLOUD_REDIRECT_URL"),
		Scopes:       scopes,
	}, getenv("SHANGCLOUD_BASE_URL"), getenv("SHANGCLOUD_DATA_DIR")}
	switch {
	case s.ClientID+s.ClientSecret+s.RedirectURL+s.BaseURL == "":
	case s.ClientID == "":
		return s, errors.New("SHANGCLOUD_CLIENT_ID is not set, but other SHANGCLOUD_ variables are: set it, or none of them for the demo platform")
	case s.ClientSecret == "":
		return s, errors.New("SHANGCLOUD_CLIENT_SECRET is not set, but SHANGCLOUD_CLIENT_ID is: set both, or neither for the demo platform")
	}
	s.BaseURL = cmp.Or(s.BaseURL, shangcloud.DefaultBaseURL)
	return s, nil
}

// Listen listens at addr. If no redirect URL is set, Listen sets it to /callback at that
// address.
func (s *Settings) Listen(addr string) (net.Listener, error) {
	listener, err := Listen(addr)
	if err != nil || s.RedirectURL != "" {
		return listener, err
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && !tcp.IP.IsUnspecified() {
		listener.Close()
		return nil, fmt.Errorf("%s is not a loopback address, and a login needs https elsewhere: set SHANGCLOUD_REDIRECT_URL to the https address that a proxy in front serves, or listen on 127.0.0.1", tcp)
	}
	s.RedirectURL = "http://" + Reachable(listener.Addr()) + "/callback"
	return listener, nil
}

// StartDemo starts a platform in this process, with a client that has the ID clientID.
func (s *Settings) StartDemo(clientID string) (*shangcloudtest.Server, error) {
	s.ClientID = clientID
	platform, err := demo.Start(&s.Config)
	if err == nil {
		s.BaseURL = platform.URL
	}
	return platform, err
}

// New returns the provider, and its redirect URL.
func (s *Settings) New(options *oauth2login.Options) (*shangcloud.Provider, *url.URL, error) {
	conf := s.Config
	conf.Endpoint = shangcloud.EndpointAt(s.BaseURL)
	provider, err := shangcloud.New(&conf, options)
	if err != nil {
		return nil, nil, err
	}
	redirect, err := url.Parse(conf.RedirectURL)
	return provider, redirect, err
}

// Announce prints where the application is, and which platform it uses. The first line
// begins with "Open" and names the application's address.
func (s *Settings) Announce(out io.Writer, listener net.Listener, isDemo bool) {
	redirect, err := url.Parse(s.RedirectURL)
	if err != nil {
		return // New has refused it
	}
	fmt.Fprintf(out, "Open      %s://%s/\n", redirect.Scheme, redirect.Host)
	if own := Reachable(listener.Addr()); redirect.Host != own {
		fmt.Fprintf(out, "Listening %s (the redirect URL leads elsewhere: to a proxy in front, I hope)\n", own)
	}
	if isDemo {
		fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", s.BaseURL)
		fmt.Fprintf(out, "          (set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET for the real one)\n")
	} else {
		fmt.Fprintf(out, "Platform  ShangCloud, %s\n", s.BaseURL)
		fmt.Fprintf(out, "Redirect  %s (has to be registered in the developer console)\n", s.RedirectURL)
	}
}
