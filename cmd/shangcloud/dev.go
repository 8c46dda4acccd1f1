package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/spf13/cobra"
)

const (
	// The platform for development has one client with a secret, and one without.
	devSecret = "dev-secret" // known to everybody, like the rest of this platform
	devPublic = "cli"

	// devGrace limits how long requests may continue after Ctrl-C.
	devGrace = 2 * time.Second
)

// devUsers are the users unless --user names others.
var devUsers = []string{"10001=小云", "10002=Ada"}

// devOptions are the flags of dev.
type devOptions struct {
	addr        string
	edgeAddr    string
	allowRemote bool
	clientID    string
	secretFile  string
	redirects   []string
	users       []string
	autoApprove bool
	data        string
	faults      []string
	jsonOutput  bool
}

func newDev() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an imitation of the platform on this machine, for development",
		Long: `Run an imitation of the platform on this machine, for development.

It has a client with a secret and one without ("` + devPublic + `"), users, and rooms
with their edge. On its consent page everybody can log in as any user: it keeps
nothing safe.`,
		Example: "  shangcloud dev\n  shangcloud dev --auto-approve --data variables.json\n  shangcloud dev --fault token=503 --fault variables=slow=2s",
		Args:    usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", "127.0.0.1:8787", "the address to listen on")
	f.StringVar(&o.edgeAddr, "edge-addr", "", "the address of the rooms' edge (default: one port above --addr)")
	f.BoolVar(&o.allowRemote, "allow-remote", false, "allow an address that other machines can reach")
	f.StringVar(&o.clientID, "client-id", "app", "the ID of the client with a secret")
	f.StringVar(&o.secretFile, "client-secret-file", "", "a file with its secret (default \""+devSecret+"\")")
	f.StringArrayVar(&o.redirects, "redirect-uri", nil, "another redirect URI of both clients (repeatable)")
	f.StringArrayVar(&o.users, "user", devUsers, "a user, as ID=NICKNAME (repeatable)")
	f.BoolVar(&o.autoApprove, "auto-approve", false, "the first user allows every login at once")
	f.StringVar(&o.data, "data", "", "a file that keeps the users' variables")
	f.StringArrayVar(&o.faults, "fault", nil, "make requests fail: "+strings.Join(faultNames(), ", ")+"; = a status, drop, or slow=2s (repeatable)")
	f.BoolVar(&o.jsonOutput, "json", false, "print the settings as one line of JSON")
	return cmd
}

func (o *devOptions) run(cmd *cobra.Command) error {
	platform := shangcloudtest.New()
	defer func() { _ = platform.Close() }()
	d := &devPlatform{platform: platform, log: cmd.ErrOrStderr(), anyHost: o.allowRemote}
	if err := o.setUp(d); err != nil {
		return err
	}
	listener, err := o.listen()
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	at := listener.Addr().(*net.TCPAddr)
	edge, err := o.startEdge(at)
	if err != nil {
		return err
	}
	defer func() { _ = edge.Close() }()
	platform.SetEdge(edge)
	if err := addFaults(platform, edge, o.faults); err != nil {
		return err
	}
	rooms, _ := edge.URL(mmo.ProtocolTCP)
	if err := o.introduce(cmd, d, "http://"+reachable(at), rooms); err != nil {
		return err
	}
	return serve(cmd.Context(), listener, d, platform)
}

// setUp adds clients, users and variables.
func (o *devOptions) setUp(d *devPlatform) (err error) {
	if err := o.addClients(d); err != nil {
		return err
	}
	for _, text := range o.users {
		user, err := parseUser(text)
		if err != nil {
			return err
		}
		d.platform.AddUser(user)
		d.users = append(d.users, user)
	}
	// Devices may poll every second, because nobody else uses this platform.
	d.platform.Configure(func(s *shangcloudtest.Settings) { s.DeviceInterval = time.Second })
	if o.autoApprove {
		d.approver = d.users[0].ID
		d.platform.AutoApprove(d.approver)
	}
	if o.data != "" {
		if d.data, err = loadVariables(o.data, d.platform); err != nil {
			return err
		}
	}
	return nil
}

// addClients adds one client with a secret and one without.
func (o *devOptions) addClients(d *devPlatform) (err error) {
	secret := devSecret
	if o.secretFile != "" {
		if secret, err = clientSecret(o.secretFile); err != nil {
			return err
		}
	}
	if o.clientID == "" || o.clientID == devPublic {
		return usagef("--client-id is empty, or that of the client without a secret")
	}
	d.redirects = append([]string{"http://127.0.0.1/callback", "http://[::1]/callback", "http://localhost:8080/callback"}, o.redirects...)
	for _, uri := range d.redirects {
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || strings.Contains(uri, "#") {
			return usagef("--redirect-uri %s: it has to be absolute, without a fragment", uri)
		}
	}
	d.platform.AddClient(shangcloudtest.Client{ID: o.clientID, Secret: secret, RedirectURIs: d.redirects})
	d.platform.AddClient(shangcloudtest.Client{ID: devPublic, RedirectURIs: d.redirects})
	return nil
}

func parseUser(text string) (shangcloudtest.User, error) {
	number, nickname, _ := strings.Cut(text, "=")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 1 {
		return shangcloudtest.User{}, usagef("--user %s: it has to be ID=NICKNAME, with an ID above zero", text)
	}
	return shangcloudtest.User{ID: id, Nickname: nickname, Email: fmt.Sprintf("user%d@example.com", id)}, nil
}

// checkAddress refuses an address that other machines can reach, unless --allow-remote is
// set.
func (o *devOptions) checkAddress(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef("%s: %w", flag, err)
	}
	if ip, err := netip.ParseAddr(host); !o.allowRemote && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return usagef("%s %s: other machines could reach it, and log in as anybody; --allow-remote allows that", flag, addr)
	}
	return nil
}

func (o *devOptions) listen() (net.Listener, error) {
	if err := o.checkAddress("--addr", o.addr); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return nil, fmt.Errorf("dev: %w; --addr takes another port", err)
	}
	return l, nil
}

// startEdge starts the edge of the rooms, for the platform that listens at the given address.
func (o *devOptions) startEdge(platform *net.TCPAddr) (*mmotest.Edge, error) {
	addr := o.edgeAddr
	if addr == "" {
		host, port, _ := net.SplitHostPort(o.addr)
		if port != "0" {
			port = strconv.Itoa(platform.Port + 1)
		}
		addr = net.JoinHostPort(host, port)
	}
	if err := o.checkAddress("--edge-addr", addr); err != nil {
		return nil, err
	}
	edge, err := mmotest.Start(addr)
	if err != nil {
		return nil, fmt.Errorf("dev: the rooms' edge: %w; --edge-addr takes another port", err)
	}
	return edge, nil
}

// reachable returns an address at which this machine reaches the listener at a.
func reachable(a *net.TCPAddr) string {
	if a.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	}
	return a.String()
}

// introduce prints the settings to paste into an application.
func (o *devOptions) introduce(cmd *cobra.Command, d *devPlatform, base, rooms string) error {
	secret := devSecret
	if o.secretFile != "" {
		secret = "" // it may be a real one
	}
	if o.jsonOutput {
		return printJSON(cmd, map[string]any{
			"base_url": base, "client_id": o.clientID, "client_secret": secret,
			"public_client_id": devPublic, "redirect_uris": d.redirects, "edge_url": rooms,
		})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ShangCloud for development. It is no safe place: everybody who can reach it\ncan log in as any user.\n\n")
	fmt.Fprintf(&b, "  Base URL       %s\n", base)
	fmt.Fprintf(&b, "  Client ID      %s\n", oneLine(o.clientID))
	fmt.Fprintf(&b, "  Client secret  %s\n", cmp.Or(secret, "as in "+oneLine(o.secretFile)))
	fmt.Fprintf(&b, "  Without secret %s\n", devPublic)
	for i, uri := range d.redirects {
		label := "              "
		if i == 0 {
			label = "Redirect URIs "
		}
		fmt.Fprintf(&b, "  %s %s%s\n", label, oneLine(uri), anyPort(uri))
	}
	for i, user := range d.users {
		label := "              "
		if i == 0 {
			label = "Users         "
		}
		fmt.Fprintf(&b, "  %s %d %s\n", label, user.ID, oneLine(user.Nickname))
	}
	fmt.Fprintf(&b, "  Rooms          %s\n", rooms)
	fmt.Fprintf(&b, "\nGo:\n\n  conf.Endpoint = shangcloud.EndpointAt(%q)\n\nThis program, in another terminal:\n\n  export SHANGCLOUD_BASE_URL=%s SHANGCLOUD_CLIENT_ID=%s\n  shangcloud login\n\nCtrl-C ends it. Requests:\n", base, base, devPublic)
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

func anyPort(uri string) string {
	if u, err := url.Parse(uri); err == nil && u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1") {
		return "  (any port)"
	}
	return ""
}

// serve answers requests until ctx ends. The end of ctx is not an error.
func serve(ctx context.Context, l net.Listener, h http.Handler, platform *shangcloudtest.Server) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	_ = platform.Close() // ends the delays of slow=
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), devGrace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
