package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/oauth2"
)

const (
	// localRedirect lets the system pick the port of a browser login.
	localRedirect = "http://127.0.0.1:0/callback"

	// maxSmallFile limits the size of the files with the secret and the settings.
	maxSmallFile = 64 << 10
)

// defaultScopes are enough for all commands. The official server-side clients ask for the
// same.
var defaultScopes = []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables, shangcloud.ScopeMMO}

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// settings are the settings of every command except dev. A flag overrides the
// environment. The environment overrides the settings of the profile's last login.
type settings struct {
	// What the command line says.
	flags      known
	scopes     string
	profile    string
	configDir  string
	jsonOutput bool
}

// known are the settings that a login remembers. None is secret.
type known struct {
	BaseURL     string   `json:"base_url"`
	ClientID    string   `json:"client_id"`
	SecretFile  string   `json:"client_secret_file,omitempty"`
	RedirectURL string   `json:"redirect_url"`
	Scopes      []string `json:"scopes"`
	Store       string   `json:"store"` // inKeyring or inFile
}

// addTo adds the flags of all commands except dev.
func (s *settings) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&s.flags.BaseURL, "base-url", "", "the deployment ($SHANGCLOUD_BASE_URL; default "+shangcloud.DefaultBaseURL+")")
	flags.StringVar(&s.flags.ClientID, "client-id", "", "the application's client ID ($SHANGCLOUD_CLIENT_ID)")
	flags.StringVar(&s.flags.SecretFile, "client-secret-file", "", "a file with the client secret ($SHANGCLOUD_CLIENT_SECRET_FILE, or the secret itself in $SHANGCLOUD_CLIENT_SECRET)")
	flags.StringVar(&s.profile, "profile", "", "the name of this login, if you have several ($SHANGCLOUD_PROFILE)")
	flags.StringVar(&s.flags.Store, "store", "", "what keeps the login: keyring or file ($SHANGCLOUD_STORE; default: the keyring where there is one)")
	flags.StringVar(&s.configDir, "config-dir", "", "the folder of the profiles ($SHANGCLOUD_CONFIG_DIR; default: one in your configuration)")
	flags.BoolVar(&s.jsonOutput, "json", false, "print JSON")
}

// addLogin adds the flags that only a login needs.
func (s *settings) addLogin(flags *pflag.FlagSet) {
	flags.StringVar(&s.scopes, "scopes", "", "scopes to ask for, joined by spaces ($SHANGCLOUD_SCOPES; default \""+strings.Join(defaultScopes, " ")+"\")")
	flags.StringVar(&s.flags.RedirectURL, "redirect-url", "", "the registered redirect URL on this machine; port 0 is any port ($SHANGCLOUD_REDIRECT_URL; default "+localRedirect+")")
}

// session is one run of a command: the provider, and the login that the store keeps.
type session struct {
	known
	dir      string
	store    tokenStore
	provider *shangcloud.Provider
	login    *oauth2login.TokenSource
}

// open prepares a command. say tells the user about the store.
func (s *settings) open(ctx context.Context, say *prompter, to purpose) (*session, error) {
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
	session := &session{known: k, dir: dir, provider: provider}
	if err := session.openStore(ctx, say, to); err != nil {
		return nil, err
	}
	session.login = provider.StoredTokens(withMinimumLife{session.store})
	return session, nil
}

// folder returns the folder of the login.
func (s *settings) folder() (string, error) {
	profile := cmp.Or(s.profile, os.Getenv("SHANGCLOUD_PROFILE"), "default")
	if !profileName.MatchString(profile) {
		return "", usagef("the profile's name may have letters, digits and . _ - only")
	}
	if dir := cmp.Or(s.configDir, os.Getenv("SHANGCLOUD_CONFIG_DIR")); dir != "" {
		return filepath.Abs(filepath.Join(dir, profile))
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", usagef("no folder for the login: %w; set --config-dir", err)
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
		Store:       cmp.Or(s.flags.Store, os.Getenv("SHANGCLOUD_STORE")),
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
	k.Store = cmp.Or(k.Store, last.Store)
	if len(k.Scopes) == 0 {
		k.Scopes = last.Scopes
	}
	if len(k.Scopes) == 0 {
		k.Scopes = defaultScopes
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
	if !info.Mode().IsRegular() {
		return known{}, fmt.Errorf("%s is not a file: remove it and log in again", path) // a pipe would hang
	}
	if isForeign(info) {
		return known{}, fmt.Errorf("%s belongs to another user: remove it, or choose another --config-dir", path)
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

// run opens the session, does the work, and waits for a refresh that is still running.
func (s *settings) run(cmd *cobra.Command, to purpose, do func(*session) error) error {
	ctx, say := cmd.Context(), &prompter{to: cmd.ErrOrStderr()}
	session, err := s.open(ctx, say, to)
	say.end()
	if err != nil {
		return err
	}
	err = do(session)
	if errors.Is(err, oauth2login.ErrLoginRequired) {
		err = s.loginRequired(ctx, session, err)
	}
	if refusal, ok := errors.AsType[*shangcloud.APIError](err); ok && refusal.StatusCode == http.StatusForbidden {
		err = s.forbidden(ctx, session, err)
	}
	// Ctrl-C may have interrupted the command during a refresh. The new token is saved
	// before the program ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if shutdownErr := session.provider.Shutdown(ctx); !errors.Is(err, oauth2login.ErrTokenStore) {
		err = errors.Join(err, shutdownErr) // otherwise it tells the same again
	}
	return err
}

// loginRequired adds the login command to the error.
func (s *settings) loginRequired(ctx context.Context, session *session, err error) error {
	if tok, loadErr := session.store.LoadToken(ctx); loadErr == nil && tok == nil {
		return fmt.Errorf("not logged in to %s; run: %s%w", session.BaseURL, s.loginCommand(), silent{err})
	}
	return fmt.Errorf("%w; run: %s", err, s.loginCommand())
}

// forbidden names the command that helps if the login lacks a scope.
func (s *settings) forbidden(ctx context.Context, session *session, err error) error {
	var granted string
	if tok, loadErr := session.store.LoadToken(ctx); loadErr == nil && tok != nil {
		granted, _ = tok.Extra("scope").(string) // not every platform tells
	}
	isGranted := func(scope string) bool { return slices.Contains(strings.Fields(granted), scope) }
	wanted := slices.Clone(session.Scopes)
	for _, scope := range defaultScopes {
		if !slices.Contains(wanted, scope) {
			wanted = append(wanted, scope)
		}
	}
	if !slices.ContainsFunc(wanted, func(scope string) bool { return !isGranted(scope) }) {
		return err
	}
	return fmt.Errorf("%w; if the login lacks a scope, run: %s --scopes %q", err, s.loginCommand(), strings.Join(wanted, " "))
}

func (s *settings) loginCommand() string {
	command := "shangcloud login"
	if profile := cmp.Or(s.profile, os.Getenv("SHANGCLOUD_PROFILE")); profile != "" {
		command += " --profile " + profile
	}
	return command
}
