package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/spf13/pflag"
	"golang.org/x/oauth2"
)

const (
	// localRedirect lets the system pick the port of a browser login.
	localRedirect = "http://127.0.0.1:0/callback"

	// maxSmallFile limits the size of the files with the secret and the settings.
	maxSmallFile = 64 << 10
)

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// settings are the settings of every command except dev. A flag overrides the
// environment. The environment overrides the settings of the profile's last login.
type settings struct {
	// What the command line says.
	flags      known
	scopes     string
	profile    string
	store      string
	jsonOutput bool
}

// known are the settings that a login remembers. None is secret.
type known struct {
	BaseURL     string   `json:"base_url"`
	ClientID    string   `json:"client_id"`
	SecretFile  string   `json:"client_secret_file,omitempty"`
	RedirectURL string   `json:"redirect_url"`
	Scopes      []string `json:"scopes"`
}

// addTo adds the flags of all commands except dev.
func (s *settings) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&s.flags.BaseURL, "base-url", "", "the deployment ($SHANGCLOUD_BASE_URL; default "+shangcloud.DefaultBaseURL+")")
	flags.StringVar(&s.flags.ClientID, "client-id", "", "the application's client ID ($SHANGCLOUD_CLIENT_ID)")
	flags.StringVar(&s.flags.SecretFile, "client-secret-file", "", "a file with the client secret ($SHANGCLOUD_CLIENT_SECRET_FILE, or the secret itself in $SHANGCLOUD_CLIENT_SECRET)")
	flags.StringVar(&s.profile, "profile", "", "the name of this login, if you have several ($SHANGCLOUD_PROFILE)")
	flags.StringVar(&s.store, "store", "", "the folder that keeps the login ($SHANGCLOUD_STORE; default: one for each profile in your configuration)")
	flags.BoolVar(&s.jsonOutput, "json", false, "print JSON")
}

// addLogin adds the flags that only a login needs.
func (s *settings) addLogin(flags *pflag.FlagSet) {
	flags.StringVar(&s.scopes, "scopes", "", "scopes to ask for, joined by spaces ($SHANGCLOUD_SCOPES; default \"user:basic var:io\")")
	flags.StringVar(&s.flags.RedirectURL, "redirect-url", "", "the registered redirect URL on this machine; port 0 is any port ($SHANGCLOUD_REDIRECT_URL; default "+localRedirect+")")
}

// session is one run of a command: the provider, and the login that the store keeps.
type session struct {
	known
	dir      string
	where    string // the store, for people
	store    oauth2login.TokenStore
	provider *shangcloud.Provider
	login    *oauth2login.TokenSource
}

func (s *settings) open() (*session, error) {
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	k, err := s.resolve(dir)
	if err != nil {
		return nil, err
	}
	secret, err := clientSecret(k.SecretFile)
	if err != nil {
		return nil, err
	}
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: k.ClientID, ClientSecret: secret, RedirectURL: k.RedirectURL,
		Endpoint: shangcloud.EndpointAt(k.BaseURL), Scopes: k.Scopes,
	}, &oauth2login.Options{
		EarlyRefresh: -1, // a command waits for a refresh only if it has to
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, usageError{err}
	}
	store, where, err := openStore(dir, k)
	if err != nil {
		return nil, err
	}
	return &session{k, dir, where, store, provider, provider.StoredTokens(store)}, nil
}

// folder returns the folder of the login.
func (s *settings) folder() (string, error) {
	if dir := cmp.Or(s.store, os.Getenv("SHANGCLOUD_STORE")); dir != "" {
		return filepath.Abs(dir)
	}
	profile := cmp.Or(s.profile, os.Getenv("SHANGCLOUD_PROFILE"), "default")
	if !profileName.MatchString(profile) {
		return "", usagef("the profile's name may have letters, digits and . _ - only")
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("no folder for the login: %w; set --store", err)
	}
	return filepath.Join(base, "shangcloud", profile), nil
}

// resolve combines the flags, the environment, the settings of the last login, and the
// defaults. The settings of the last login count only for its deployment and client,
// because no other deployment or client may get its secret.
func (s *settings) resolve(dir string) (known, error) {
	k := known{
		BaseURL:     strings.TrimRight(cmp.Or(s.flags.BaseURL, os.Getenv("SHANGCLOUD_BASE_URL")), "/"),
		ClientID:    cmp.Or(s.flags.ClientID, os.Getenv("SHANGCLOUD_CLIENT_ID")),
		SecretFile:  cmp.Or(s.flags.SecretFile, os.Getenv("SHANGCLOUD_CLIENT_SECRET_FILE")),
		RedirectURL: cmp.Or(s.flags.RedirectURL, os.Getenv("SHANGCLOUD_REDIRECT_URL")),
		Scopes:      strings.Fields(cmp.Or(s.scopes, os.Getenv("SHANGCLOUD_SCOPES"))),
	}
	last, err := recall(dir)
	if err != nil {
		return known{}, err
	}
	if cmp.Or(k.BaseURL, last.BaseURL) != last.BaseURL || cmp.Or(k.ClientID, last.ClientID) != last.ClientID {
		last = known{}
	}
	k.BaseURL = cmp.Or(k.BaseURL, last.BaseURL, shangcloud.DefaultBaseURL)
	k.ClientID = cmp.Or(k.ClientID, last.ClientID)
	k.SecretFile = cmp.Or(k.SecretFile, last.SecretFile)
	k.RedirectURL = cmp.Or(k.RedirectURL, last.RedirectURL, localRedirect)
	if len(k.Scopes) == 0 {
		k.Scopes = last.Scopes
	}
	if len(k.Scopes) == 0 {
		k.Scopes = []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables}
	}
	if k.ClientID == "" {
		return known{}, usagef("the client ID is missing: set --client-id or SHANGCLOUD_CLIENT_ID")
	}
	if k.SecretFile != "" {
		k.SecretFile, err = filepath.Abs(k.SecretFile)
	}
	return k, err
}

// clientSecret reads the secret from a file or the environment. The command line has no
// flag for it, because other users can list processes.
func clientSecret(file string) (string, error) {
	if file == "" {
		return os.Getenv("SHANGCLOUD_CLIENT_SECRET"), nil
	}
	secret, err := readSmall(file)
	if err != nil {
		return "", usagef("the client secret's file: %w", err)
	}
	secret = []byte(strings.TrimRight(string(secret), "\r\n"))
	if len(secret) == 0 {
		return "", usagef("the client secret's file %s is empty", file)
	}
	return string(secret), nil
}

// openStore picks where the token is kept. Each deployment and client has an entry of its
// own: no setting can send a token to where it is not from.
func openStore(dir string, k known) (store oauth2login.TokenStore, where string, err error) {
	sum := sha256.Sum256([]byte(k.BaseURL + "\n" + k.ClientID))
	path := filepath.Join(dir, "token-"+hex.EncodeToString(sum[:8])+".json")
	file, err := tokenstore.NewFile(path)
	return file, path, err
}

func rememberedAt(dir string) string { return filepath.Join(dir, "login.json") }

// recall returns what the last login remembered, or the zero value.
func recall(dir string) (k known, err error) {
	path := rememberedAt(dir)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known{}, nil
	}
	if err != nil {
		return known{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return known{}, fmt.Errorf("others may write to %s: chmod go-w it, or remove it and log in again", path)
	}
	data, err := readSmall(path)
	if err == nil {
		if err = json.Unmarshal(data, &k); err != nil {
			err = fmt.Errorf("%s can't be read: %w; remove it and log in again", path, err)
		}
	}
	return k, err
}

// remember keeps k for later commands. The file has either the old or the new settings,
// never a part of them.
func remember(dir string, k known) error {
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(rememberedAt(dir), append(data, '\n'))
}

// replaceFile writes a file that only its owner can read.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // fails after the rename
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err == nil && len(data) > maxSmallFile {
		err = fmt.Errorf("%s is too large", path)
	}
	return data, err
}

// run opens the session, does the work, and waits for what was sent.
func (s *settings) run(ctx context.Context, work func(*session) error) error {
	session, err := s.open()
	if err != nil {
		return err
	}
	err = work(session)
	// A refresh that Ctrl-C has left behind is saved before the program ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return errors.Join(err, session.provider.Shutdown(ctx))
}
