package security_test

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
	"html/template"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	texttemplate "text/template"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// wrapping is a format with %w. It is a variable, because go vet rejects a constant with %w
// if the argument is not an error. Then package fmt calls no method of the argument, and
// prints its fields.
var wrapping = "wrapped: %w"

// plainData lists the types whose own fields contain secrets, so %w prints the secrets.
// SECURITY.md says so. For the error types this is true only of the struct: for a pointer
// to the struct, %w prints no secret.
var plainData = map[string]bool{
	"oauth2login.Login": true, "oauth2login.Options": true,
	"oauth2login.CallbackError": true, "oauth2login.LoginError": true, "shangcloud.APIError": true,
	"shangcloudtest.Client": true, "shangcloudtest.Request": true,
}

// hush is part of every secret in these tests.
const hush = "hushhush"

// root is the module's directory.
const root = ".."

// exportedTypes returns the exported types of a package with their doc comments.
func exportedTypes(t *testing.T, dir string) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution|parser.ParseComments)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok && spec.Name.IsExported() {
					docs[file.Name.Name+"."+spec.Name.Name] = group.Doc.Text() + spec.Doc.Text()
				}
			}
		}
	}
	return docs
}

// allExportedTypes returns the exported types of all packages that others can import.
func allExportedTypes(t *testing.T) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for _, dir := range packages(t) {
		maps.Copy(docs, exportedTypes(t, dir))
	}
	return docs
}

// packages returns the directories of all packages that others can import.
func packages(t *testing.T) (dirs []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case path == ".", path == "security":
		case name == "internal", name == "testdata", path == "examples", path == "tests", name[0] == '.':
			return fs.SkipDir
		}
		dirs = append(dirs, path)
		return nil
	})
	require.NoError(t, err)
	return dirs
}

// elsewhere lists types of other modules. For each type it names the test in that module
// that checks the type.
var elsewhere = map[string]struct{ dir, test string }{
	"redisstore.States":        {"redisstore", "TestStores_print_no_secret"},
	"redisstore.Tokens":        {"redisstore", "TestStores_print_no_secret"},
	"redisstore.UserTokens":    {"redisstore", "TestStores_print_no_secret"},
	"redisstore.Option":        {}, // a function
	"keyring.Store":            {"tokenstore/keyring", "TestStore"},
	"keyring.UnavailableError": {"tokenstore/keyring", "TestCheck_unavailable"},
	"gothshangcloud.Provider":  {"integrations/goth", "TestNothingSecretIsPrinted"},
	"gothshangcloud.Session":   {"integrations/goth", "TestNothingSecretIsPrinted"},
	"mmo.Client":               {"mmo", "TestClientPrintsNoSecret"},
	"mmo.Room":                 {"mmo", "TestClientPrintsNoSecret"},
	"mmo.Conn":                 {"mmo", "TestNothingSecretIsPrinted"},
	"mmotest.Edge":             {"mmo/mmotest", "TestEdgePrintsNoKey"},
	// The next types hold no secret.
	"mmo.ClientOption": {}, "mmo.Config": {}, "mmo.Kind": {}, "mmo.Value": {}, "mmo.ClockError": {},
	"mmo.DialOptions": {}, "mmo.Session": {}, "mmo.Member": {},
	"mmo.Event": {}, "mmo.Text": {}, "mmo.Broadcast": {}, "mmo.MemberJoined": {}, "mmo.MemberLeft": {}, "mmo.Members": {}, "mmo.Vars": {},
	"mmotest.Datagrams": {}, "mmotest.Faults": {}, "mmotest.Settings": {}, "mmotest.Stats": {}, "mmotest.TB": {},
}

// No value of valuesWithSecrets prints a secret. An exported type without a value in
// valuesWithSecrets fails the test.
func TestNoTypePrintsSecrets(t *testing.T) {
	values := valuesWithSecrets(t)
	docs := allExportedTypes(t)
	t.Run("every type", func(t *testing.T) {
		for name := range docs {
			if _, ok := elsewhere[name]; !ok {
				assert.Contains(t, values, name, "a type that nobody has looked at for secrets")
			}
		}
	})
	t.Run("tests of other modules", func(t *testing.T) {
		for name, other := range elsewhere {
			if _, err := os.Stat(filepath.Join(root, other.dir)); err == nil && other.test != "" { // the module cache lacks the other modules
				assert.True(t, testsBelow(t, other.dir)[other.test], "%s, which looks at %s, is not there", other.test, name)
			}
		}
	})
	for name, list := range values {
		t.Run(name, func(t *testing.T) { assertNoneOfThemPrints(t, name, list) })
	}
	// Package fmt calls no method of a value in an unexported field. If a type then prints
	// secrets, its documentation must say so. The documentation of other types must not.
	t.Run("caveats", func(t *testing.T) {
		for name, list := range values {
			assert.Equal(t, printsFromWithin(list), strings.Contains(strings.Join(strings.Fields(docs[name]), " "), "unexported field"), name)
		}
	})
}

// printsFromWithin puts each value into an unexported field of a struct. It reports whether
// package fmt then prints a secret, with any verb.
func printsFromWithin(list []any) bool {
	for _, v := range list {
		hidden := struct{ v any }{v}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			if secretIn(fmt.Sprintf(verb, hidden)) != "" {
				return true
			}
		}
	}
	return false
}

func assertNoneOfThemPrints(t *testing.T, name string, list []any) {
	t.Helper()
	for _, v := range list {
		assertPrintsNoSecret(t, name, v)
		if !plainData[name] {
			assertQuotesNoSecret(t, name+" by %w", fmt.Sprint(fmt.Errorf(wrapping, v)))
		}
	}
}

// valuesWithSecrets returns values that contain secrets, for every exported type. The key
// is the name of the type.
func valuesWithSecrets(t *testing.T) map[string][]any {
	t.Helper()
	tok := &oauth2.Token{AccessToken: "access-" + hush, RefreshToken: "refresh-" + hush, Expiry: time.Now().Add(time.Hour)}
	key := []byte((hush + hush + hush + hush)[:32])
	conf := valid()
	conf.ClientSecret = "secret-" + hush
	provider := conf.provider(t)
	conf.StateKeys = [][]byte{key}
	sealed := conf.provider(t)
	states := new(state.Memory)
	require.NoError(t, states.Put(t.Context(), "state-"+hush, []byte(hush), time.Hour))
	db := sql.OpenDB(talkativeConnector{dsn: "postgres://login:" + hush + "@db"})
	sqlStates, err := sqlstore.NewStates(db, sqlstore.PostgreSQL, sqlstore.Config{})
	require.NoError(t, err)
	sqlTokens, err := sqlstore.NewTokens(db, sqlstore.PostgreSQL, sqlstore.Config{})
	require.NoError(t, err)
	keys, err := tokenstore.NewKeys(key)
	require.NoError(t, err)
	memory := new(tokenstore.Memory)
	require.NoError(t, memory.SaveToken(t.Context(), tok))
	file, err := tokenstore.NewFile(t.TempDir() + "/token")
	if !errors.Is(err, errors.ErrUnsupported) { // if NewFile is not supported, file is nil
		require.NoError(t, err)
		require.NoError(t, file.SaveToken(t.Context(), tok))
	}

	client := shangcloudtest.Client{ID: "id", Secret: hush, RedirectURIs: []string{"https://app.example/callback"}}
	platform := shangcloudtest.New()
	platform.AddClient(client)
	answer, err := platform.Transport().RoundTrip(httptest.NewRequest("POST", "https://api.example/oauth/token?"+hush, strings.NewReader("code="+hush)))
	require.NoError(t, err)
	answer.Body.Close()

	callback := oauth2login.CallbackError{Code: hush, Description: hush, URI: hush}
	failed := oauth2login.LoginError{Value: hush, Err: errors.New("it failed")}
	refused := shangcloud.APIError{StatusCode: 401, Code: "invalid_token", Message: hush, Body: []byte(hush)}

	none := []any{} // an interface or a function, which prints nothing
	return map[string][]any{
		"a client":  {provider.Client(oauth2.StaticTokenSource(tok))},
		"a context": {provider.ClientContext(t.Context())},

		"shangcloud.API":        {provider.API(provider.TokenSource(tok))},
		"shangcloud.APIError":   {refused, &refused},
		"shangcloud.APIOption":  none,
		"shangcloud.CallOption": none,
		"shangcloud.Provider":   {provider, sealed},
		"shangcloud.UserInfo":   {shangcloud.UserInfo{ID: 1}, &shangcloud.UserInfo{ID: 1}},

		// A CallbackError contains the error parameters of the callback, but never the code
		// or the state.
		"oauth2login.CallbackError":  {callback, &callback},
		"oauth2login.Event":          {oauth2login.Event{Kind: "login", ClientID: "id", Err: &failed}},
		"oauth2login.Login":          {oauth2login.Login{Token: tok, Value: hush, Nonce: hush}, &oauth2login.Login{Token: tok, Value: hush, Nonce: hush}},
		"oauth2login.LoginError":     {failed, &failed},
		"oauth2login.LoginOption":    none,
		"oauth2login.Options":        {conf.Options, &conf.Options},
		"oauth2login.Provider":       {provider.Provider, sealed.Provider},
		"oauth2login.ProviderOption": none,
		"oauth2login.TokenLocker":    none,
		"oauth2login.TokenSource":    {provider.TokenSource(tok), provider.StoredTokens(memory)},
		"oauth2login.TokenStore":     none,

		"state.Memory": {states},
		"state.Store":  none,

		"sqlstore.Config":     {sqlstore.Config{}},
		"sqlstore.Dialect":    {sqlstore.PostgreSQL},
		"sqlstore.States":     {sqlStates},
		"sqlstore.Tokens":     {sqlTokens},
		"sqlstore.UserTokens": {sqlTokens.User("1")},

		"tokenstore.File":            {file},
		"tokenstore.FileOption":      none,
		"tokenstore.Keys":            {keys, tokenstore.Encrypted(memory, keys, "github", "1")},
		"tokenstore.Memory":          {memory},
		"tokenstore.UnsafeFileError": {&tokenstore.UnsafeFileError{}},

		"the platform's transport":       {platform.Transport()},
		"shangcloudtest.Client":          {client, &client},
		"shangcloudtest.ExpiresIn":       {shangcloudtest.ExpiresIn(1)},
		"shangcloudtest.Fault":           none, // contains only what the test itself sets
		"shangcloudtest.MissingVariable": {shangcloudtest.MissingVariable(1)},
		"shangcloudtest.PKCE":            {shangcloudtest.PKCE(1)},
		"shangcloudtest.Authorization":   {shangcloudtest.Authorization(1)},
		"shangcloudtest.Edge":            none,
		"shangcloudtest.Request":         {platform.Requests()[0]},
		"shangcloudtest.Server":          {platform},
		"shangcloudtest.Settings":        {shangcloudtest.Settings{}},
		"shangcloudtest.TB":              none,
		"shangcloudtest.User":            {shangcloudtest.User{ID: 1}},

		"statetest.Backend":      none, // functions
		"tokenstoretest.Backend": none,
	}
}

// talkativeConnector contains a password, like the connectors of database drivers.
type talkativeConnector struct {
	driver.Connector
	dsn string
}

// The templates print a value. textTemplate prints it as text. htmlTemplate prints it in
// three places of a page, each with different escaping.
var (
	textTemplate = texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%v %#v" . .}}`))
	htmlTemplate = template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p><script>let v = {{.}}</script>`))
)

// printed prints v, a pointer to v, and structs that contain v, in all usual ways. It
// returns the whole text.
func printed(v any) string {
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	forms := []any{v, pointer.Interface(), []any{v}, map[string]any{"v": v}, struct{ V any }{v}}
	var out bytes.Buffer
	if reflect.TypeOf(v).Kind() == reflect.Pointer {
		// Package fmt calls no method of a value in an unexported field. If that value is a
		// pointer, %v, %+v and %#v print only its address. Other verbs, such as %s, print
		// the struct behind the pointer, and no type can prevent this. So these verbs are
		// not tested here.
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
		_ = textTemplate.Execute(&out, form)
		_ = htmlTemplate.Execute(&out, form)
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", form)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", form)
	}
	return out.String()
}

func assertPrintsNoSecret(t *testing.T, name string, v any) {
	t.Helper()
	assertQuotesNoSecret(t, name, printed(v))
}

func assertQuotesNoSecret(t *testing.T, name, text string) {
	t.Helper()
	if secret := secretIn(text); secret != "" {
		before, rest, _ := strings.Cut(text, secret)
		t.Errorf("%s prints a secret: %s[…]%s", name, before[max(0, len(before)-100):], rest[:min(len(rest), 50)])
	}
}

// secretIn returns a form of hush that text contains, or "". It looks for hush as text, in
// hexadecimal, as a list of bytes, and in base64.
func secretIn(text string) string {
	for _, secret := range []string{
		hush, fmt.Sprintf("%x", hush), fmt.Sprintf("%X", hush), strings.Trim(fmt.Sprint([]byte(hush)), "[]"),
		"0x68, 0x75, 0x73, 0x68", "aHVzaGh1c2", // in base64
	} {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// TestNoErrorPrintsSecrets makes every call fail in many ways. All arguments contain
// secrets, and the server repeats some of the secrets.
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
		s := newSiteAt(t, platform, func(c *setup) {
			c.ClientSecret = hush
			c.Logger = slog.New(slog.DiscardHandler)
		})
		b := newBrowser(t)
		authURL := b.start(t, s, oauth2login.WithValue(hush))
		collect(b.finish(s, "https://app.example/callback?code="+hush+"&state="+queryOf(t, authURL).Get("state")))
		direct, err := s.StartUnbound(t.Context())
		require.NoError(t, err)
		collect(s.FinishUnbound(t.Context(), url.Values{"state": {queryOf(t, direct).Get("state")}, "code": {hush}}))
		collect(s.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return nil }))
		collect(s.TokenSource(tok).Token())
		api := s.API(oauth2.StaticTokenSource(valid))
		collect(api.UserInfo(t.Context()))
		collect(api.Variable(t.Context(), hush))
		collect(nil, api.SetVariable(t.Context(), hush, hush))
		collect(nil, api.DeleteVariable(t.Context(), hush))
		collect(nil, api.Call(t.Context(), "/api/call?code="+hush, hush, nil))
		collect(nil, api.Call(t.Context(), "/api/call", nil, nil, shangcloud.WithBareToken(), shangcloud.WithHeader("X-Room", hush)))
		server.Close() // now the server can't be reached
		collect(s.TokenSource(tok).Token())
		collect(api.Variable(t.Context(), hush))
	}

	// The library refuses these callbacks and arguments.
	s, b := newSite(t), newBrowser(t)
	stateParam := queryOf(t, b.start(t, s)).Get("state")
	for _, query := range []string{
		"", "code=" + hush, "state=" + hush, "code=" + hush + "&state=" + hush, "error=" + hush + "&state=" + stateParam,
		"code=" + hush + "&code=" + hush + "&state=" + stateParam, "code=%00" + hush + "&state=" + stateParam, "error=access_denied&error_description=" + hush + "&state=" + hush,
	} {
		collect(b.finish(s, "https://app.example/callback?"+query))
	}
	collect(s.FinishUnbound(t.Context(), url.Values{"state": {hush}, "code": {hush}}))
	collect(s.StartUnbound(t.Context(), oauth2login.WithScopes("user:basic"), oauth2login.WithValue(hush)))
	collect(shangcloud.New(&oauth2.Config{ClientID: "id", ClientSecret: hush + "\n"}, nil))
	collect(shangcloud.New(&oauth2.Config{ClientID: "id", RedirectURL: "https://app.example/"}, &oauth2login.Options{StateKeys: [][]byte{[]byte(hush)}}))
	for _, failing := range []error{errors.New(hush), talkativeError{hush}, fmt.Errorf("redis: SET %s", hush), context.DeadlineExceeded} {
		broken := newSite(t, func(c *setup) { c.States = failingStore{failing} })
		collect(nil, broken.StartLogin(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)))
	}

	assert.Greater(t, len(errs), 100)
	for _, err := range errs {
		assertPrintsNoSecret(t, err.Error(), err)
	}
}

// The provider repeats the login's state in the error of its callback. The library must not
// print the state.
func TestCallbackErrorPrintsNoState(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	state := queryOf(t, b.start(t, s, oauth2login.WithValue(hush))).Get("state")
	q := url.Values{"state": {state}, "error": {state}, "error_description": {"state " + state}, "error_uri": {"https://provider.example/?" + state}}
	_, err := b.finish(s, "https://app.example/callback?"+q.Encode())
	failed, ok := errors.AsType[*oauth2login.LoginError](err)
	require.True(t, ok)
	refused, ok := errors.AsType[*oauth2login.CallbackError](err)
	require.True(t, ok)
	require.Equal(t, state, refused.Code, "it is there for who asks")
	for _, v := range []any{err, failed, *failed, refused, *refused, oauth2login.Event{Err: err}} {
		text := printed(v)
		assert.NotContains(t, text, state)
		assert.NotContains(t, text, hush)
	}
}

// talkativeError is not a pointer, so %#v and %d print its fields.
type talkativeError struct{ text string }

func (e talkativeError) Error() string { return e.text }

type failingStore struct{ err error }

func (s failingStore) Put(context.Context, string, []byte, time.Duration) error { return s.err }

func (s failingStore) Take(context.Context, string) ([]byte, bool, error) { return nil, false, s.err }
