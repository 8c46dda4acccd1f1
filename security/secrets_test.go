//go:build unported

package shangcloud_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// hush is part of every secret in these tests.
const hush = "hushhush"

// exportedTypes are those that the files of a package declare.
func exportedTypes(t *testing.T, dir string) (names []string) {
	t.Helper()
	files := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".":
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, dir+"/"+path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok {
				for _, spec := range gen.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() {
						names = append(names, file.Name.Name+"."+ts.Name.Name)
					}
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	return names
}

// packages are the folders of all packages that others can import.
func packages(t *testing.T) (dirs []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case path == ".":
		case name == "internal", name == "testdata", path == "examples", path == "tests", name[0] == '.':
			return fs.SkipDir
		}
		dirs = append(dirs, path)
		return nil
	})
	require.NoError(t, err)
	return dirs
}

// TestNoTypePrintsSecrets has a value with secrets of every exported type, and fails
// for one that was forgotten here.
func TestNoTypePrintsSecrets(t *testing.T) {
	tok := &oauth2.Token{AccessToken: "access-" + hush, RefreshToken: "refresh-" + hush, Expiry: time.Now().Add(time.Hour)}
	conf := valid()
	conf.ClientSecret = "secret-" + hush
	conf.StateKeys = [][]byte{[]byte((hush + hush + hush + hush)[:32])}
	keyed := conf
	sealed, err := shangcloud.New(conf)
	require.NoError(t, err)
	conf.StateKeys = nil
	provider, err := shangcloud.New(conf)
	require.NoError(t, err)
	states := new(state.Memory)
	require.NoError(t, states.Put(t.Context(), "state-"+hush, []byte(hush), time.Hour))
	statesInSQL, err := state.NewSQL(sql.OpenDB(talkativeConnector{dsn: "postgres://login:" + hush + "@db"}), state.PostgreSQL, state.SQLConfig{})
	require.NoError(t, err)
	memory := new(tokenstore.Memory)
	require.NoError(t, memory.SaveToken(t.Context(), tok))
	file, err := tokenstore.NewFile(t.TempDir() + "/token")
	require.NoError(t, err)
	require.NoError(t, file.SaveToken(t.Context(), tok))
	sqlConfig := tokenstore.SQLConfig{Keys: [][]byte{[]byte((hush + hush + hush + hush)[:32])}}
	request := httptest.NewRequest("GET", "https://api.example/?code="+hush, nil)
	request.Header.Set("Authorization", "Bearer "+hush)

	client := shangcloudtest.Client{ID: "id", Secret: hush, RedirectURIs: []string{"https://app.example/callback"}}
	platform := shangcloudtest.New()
	platform.AddClient(client)
	answer, err := platform.Transport().RoundTrip(httptest.NewRequest("POST", "https://api.example/oauth/token?"+hush, strings.NewReader("code="+hush)))
	require.NoError(t, err)
	answer.Body.Close()

	none := []any{} // an interface, or a function: there is nothing to print
	values := map[string][]any{
		"shangcloud.API":         {provider.API(provider.TokenSource(tok, nil))},
		"shangcloud.APIError":    {&shangcloud.APIError{StatusCode: 401, Code: "invalid_token", Message: hush, Body: []byte(hush)}},
		"shangcloud.APIOption":   none,
		"shangcloud.Config":      {conf, &conf, keyed, &keyed},
		"shangcloud.LoginOption": none,
		"shangcloud.Login":       {shangcloud.Login{Token: tok, Value: hush}, &shangcloud.Login{Token: tok, Value: hush}},
		"shangcloud.Provider":    {provider, sealed},
		"shangcloud.TokenLocker": none,
		"shangcloud.TokenSource": {provider.TokenSource(tok, nil), provider.TokenSource(tok, memory)},
		"shangcloud.TokenStore":  none,
		"shangcloud.UserInfo":    {shangcloud.UserInfo{ID: 1}, &shangcloud.UserInfo{ID: 1}},
		// What the callback's query says is printed on request only, and never
		// its code or state, which are not in there.
		"shangcloud.CallbackError": {&shangcloud.CallbackError{Code: "access_denied"}},

		"state.Dialect":   {state.PostgreSQL},
		"state.Memory":    {states},
		"state.SQL":       {statesInSQL},
		"state.SQLConfig": {state.SQLConfig{}},
		"state.Store":     none,

		"tokenstore.Dialect":         {tokenstore.PostgreSQL},
		"tokenstore.File":            {file},
		"tokenstore.Memory":          {memory},
		"tokenstore.SQL":             {new(tokenstore.SQL)}, // tests with a database: tokenstore, tests/
		"tokenstore.SQLConfig":       {sqlConfig, &sqlConfig},
		"tokenstore.SQLUser":         {new(tokenstore.SQL).User("1")},
		"tokenstore.UnsafeFileError": {&tokenstore.UnsafeFileError{}},

		"shangcloudtest.Client":          {client, &client},
		"shangcloudtest.ExpiresIn":       {shangcloudtest.ExpiresIn(1)},
		"shangcloudtest.Fault":           none, // a test's own words
		"shangcloudtest.MissingVariable": {shangcloudtest.MissingVariable(1)},
		"shangcloudtest.PKCE":            {shangcloudtest.PKCE(1)},
		"shangcloudtest.Request":         {platform.Requests()[0]},
		"shangcloudtest.Server":          {platform},
		"shangcloudtest.Settings":        {shangcloudtest.Settings{}},
		"shangcloudtest.TB":              none,
		"shangcloudtest.User":            {shangcloudtest.User{ID: 1}},

		"statetest.Backend": none, // functions
	}
	elsewhere := map[string]string{ // in modules of their own
		"redisstate.Store":        "state/redisstate: TestStorePrintsNoSecret",
		"redisstate.Option":       "", // a function
		"gothshangcloud.Provider": "integrations/goth: TestNothingSecretIsPrinted",
		"gothshangcloud.Session":  "integrations/goth: TestNothingSecretIsPrinted",
	}
	for _, dir := range packages(t) {
		for _, name := range exportedTypes(t, dir) {
			if _, ok := elsewhere[name]; !ok {
				assert.Contains(t, values, name, "a type that nobody has looked at for secrets")
			}
		}
	}
	for name, test := range elsewhere {
		if dir, test, ok := strings.Cut(test, ": "); ok {
			assert.True(t, testsBelow(t, dir)[test], "%s, which looks at %s, is not there", test, name)
		}
	}
	for name, list := range values {
		for _, v := range list {
			assertPrintsNoSecret(t, name, v)
		}
	}
	assertPrintsNoSecret(t, "an API call's client", provider.Client(oauth2.StaticTokenSource(tok)))
	assertPrintsNoSecret(t, "ClientContext", provider.ClientContext(t.Context()))
}

// talkativeConnector knows a password, as those of drivers do.
type talkativeConnector struct {
	driver.Connector
	dsn string
}

// printed is what can be printed of v, of a pointer to it and of structs that contain it.
func printed(v any) string {
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	forms := []any{v, pointer.Interface(), []any{v}, map[string]any{"v": v}, struct{ V any }{v}}
	var out bytes.Buffer
	if reflect.TypeOf(v).Kind() == reflect.Pointer {
		// Package fmt calls no method of an unexported field, and prints where a
		// pointer in one leads for verbs that make no sense for it, such as %s.
		// There, as by value, nothing can be done: see Config.
		hidden := struct{ v any }{v}
		fmt.Fprintf(&out, "%v %+v %#v", hidden, hidden, hidden)
	}
	for _, form := range forms {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", form)
		}
		if text, err := json.Marshal(form); err == nil {
			out.Write(text)
		}
		if err, ok := form.(error); ok {
			out.WriteString(err.Error())
			fmt.Fprintf(&out, "%v", fmt.Errorf("wrapped: %w", err))
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", form)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", form)
	}
	return out.String()
}

func assertPrintsNoSecret(t *testing.T, name string, v any) {
	t.Helper()
	text := printed(v)
	for _, secret := range []string{
		hush, fmt.Sprintf("%x", hush), fmt.Sprintf("%X", hush), strings.Trim(fmt.Sprint([]byte(hush)), "[]"),
		"0x68, 0x75, 0x73, 0x68", "aHVzaGh1c2", // in base64
	} {
		if _, rest, found := strings.Cut(text, secret); found {
			before, _, _ := strings.Cut(text, secret)
			t.Errorf("%s prints a secret: %s[…]%s", name, before[max(0, len(before)-100):], rest[:min(len(rest), 50)])
		}
	}
}

// TestNoErrorPrintsSecrets has every call fail in many ways, with secrets in every
// place, some of which the other side repeats.
func TestNoErrorPrintsSecrets(t *testing.T) {
	var errs []error
	collect := func(_ any, err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	tok := &oauth2.Token{AccessToken: "access-" + hush, RefreshToken: "refresh-" + hush, Expiry: time.Now().Add(-time.Hour)}
	valid := &oauth2.Token{AccessToken: "access-" + hush, Expiry: time.Now().Add(time.Hour)}
	for _, answer := range []struct {
		status int
		body   string
	}{
		{200, `{"access_token":"` + hush}, {200, hush}, {200, `{"error":"` + hush + `"}`}, {200, `{"` + hush + `":1}`}, {200, `{"uid":"` + hush + `"}`},
		{400, `{"error":"` + hush + `","error_description":"` + hush + `"}`}, {400, `{"error":"invalid_grant","error_description":"` + hush + `","error_uri":"` + hush + `"}`},
		{401, `{"error":"` + hush + `"}`}, {403, hush}, {404, hush}, {429, hush}, {500, hush}, {503, `{"message":"` + hush + `"}`}, {302, hush}, {299, hush},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://evil.example/?code="+hush)
			w.Header().Set("X-"+hush, hush)
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
		}))
		platform := &shangcloudtest.Server{URL: server.URL}
		s := newSiteAt(t, platform, func(c *shangcloud.Config) {
			c.ClientSecret = hush
			c.Logger = slog.New(slog.DiscardHandler)
		})
		b := newBrowser(t)
		authURL := b.start(t, s, shangcloud.WithValue(hush))
		collect(b.finish(s, "https://app.example/callback?code="+hush+"&state="+queryOf(t, authURL).Get("state")))
		direct, err := s.AuthCodeURL(t.Context())
		require.NoError(t, err)
		collect(s.Exchange(t.Context(), queryOf(t, direct).Get("state"), hush))
		collect(s.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return nil }))
		collect(s.TokenSource(tok, nil).Token())
		api := s.API(oauth2.StaticTokenSource(valid))
		collect(api.UserInfo(t.Context()))
		collect(api.Variable(t.Context(), hush))
		collect(nil, api.SetVariable(t.Context(), hush, hush))
		collect(nil, api.DeleteVariable(t.Context(), hush))
		server.Close() // and now it can't be reached
		collect(s.TokenSource(tok, nil).Token())
		collect(api.Variable(t.Context(), hush))
	}

	// Callbacks, and arguments that are refused.
	s, b := newSite(t), newBrowser(t)
	stateParam := queryOf(t, b.start(t, s)).Get("state")
	for _, query := range []string{
		"", "code=" + hush, "state=" + hush, "code=" + hush + "&state=" + hush, "error=" + hush + "&state=" + stateParam,
		"code=" + hush + "&code=" + hush + "&state=" + stateParam, "code=%00" + hush + "&state=" + stateParam, "error=access_denied&error_description=" + hush + "&state=" + hush,
	} {
		collect(b.finish(s, "https://app.example/callback?"+query))
	}
	collect(s.Exchange(t.Context(), hush, hush))
	collect(s.AuthCodeURL(t.Context(), shangcloud.WithScopes("user:basic"), shangcloud.WithValue(hush)))
	collect(shangcloud.New(shangcloud.Config{ClientID: "id", ClientSecret: hush + "\n"}))
	collect(shangcloud.New(shangcloud.Config{ClientID: "id", RedirectURL: "https://app.example/", StateKeys: [][]byte{[]byte(hush)}}))
	for _, failing := range []error{errors.New(hush), talkativeError{hush}, fmt.Errorf("redis: SET %s", hush), context.DeadlineExceeded} {
		broken := newSite(t, func(c *shangcloud.Config) { c.States = failingStore{failing} })
		collect(nil, broken.StartLogin(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)))
	}

	assert.Greater(t, len(errs), 100)
	for _, err := range errs {
		var ce *shangcloud.CallbackError
		if errors.As(err, &ce) {
			continue // its fields are what the callback's sender said, who knows no secret of ours
		}
		assertPrintsNoSecret(t, err.Error(), err)
	}
}

// talkativeError is no pointer: %#v and %d print what is in it.
type talkativeError struct{ text string }

func (e talkativeError) Error() string { return e.text }

type failingStore struct{ err error }

func (s failingStore) Put(context.Context, string, []byte, time.Duration) error { return s.err }

func (s failingStore) Take(context.Context, string) ([]byte, bool, error) { return nil, false, s.err }
