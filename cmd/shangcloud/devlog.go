package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// maxLogged is how much of a body is read for the log.
const maxLogged = 64 << 10

// harmless are the parameters whose values are logged. All others are masked.
var harmless = []string{
	"action", "allow_multi_login", "client_id", "code_challenge_method", "error",
	"error_description", "grant_type", "key", "redirect_uri", "response_type", "scope",
	"target_uid", "type",
}

// devPlatform is the platform with a log. It can keep variables in a file, and allow
// device logins without a page.
type devPlatform struct {
	platform  *shangcloudtest.Server
	users     []shangcloudtest.User
	redirects []string
	approver  int64 // the user who allows every login, or 0
	data      *variablesFile
	anyHost   bool

	mu  sync.Mutex // guards log
	log io.Writer
}

func (d *devPlatform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	if !d.anyHost && !isLoopback(r.Host) {
		// The Host header has a foreign name that resolves to this machine (DNS
		// rebinding).
		http.Error(w, "This is another host.", http.StatusMisdirectedRequest)
		d.print(begun, r, "", "421, the Host header is not of this machine")
		return
	}
	sent := &recorded{from: r.Body}
	r.Body = sent
	answer := &recordedAnswer{ResponseWriter: w}
	defer func() {
		result := answer.result()
		failure := recover()
		if failure != nil {
			result = "the connection is dropped"
		}
		d.print(begun, r, parameters(r, sent.head.Bytes()), result)
		if failure != nil {
			panic(failure)
		}
	}()
	d.platform.ServeHTTP(answer, r)
	d.after(r, answer)
}

// after runs when the platform has answered a request. It allows a device login, or saves
// the variables.
func (d *devPlatform) after(r *http.Request, answer *recordedAnswer) {
	switch r.URL.Path {
	case "/oauth/device_authorization":
		var device struct {
			UserCode string `json:"user_code"`
		}
		if d.approver != 0 && json.Unmarshal(answer.head.Bytes(), &device) == nil && device.UserCode != "" {
			_ = d.platform.ApproveDevice(device.UserCode, d.approver) // fails if the user has already answered on the page
		}
	case variablesPath:
		if d.data == nil {
			return
		}
		if err := d.data.save(d.users); err != nil {
			d.printf("--data: %v\n", err)
		}
	}
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

func (d *devPlatform) print(begun time.Time, r *http.Request, parameters, result string) {
	d.printf("%s %s %s%s: %s (%d ms)\n", begun.Format(time.TimeOnly), r.Method, r.URL.Path, parameters, result, time.Since(begun).Milliseconds())
}

func (d *devPlatform) printf(format string, args ...any) {
	line := oneLine(strings.TrimSuffix(fmt.Sprintf(format, args...), "\n"))
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintln(d.log, line)
}

// parameters lists the parameters of the query and of the body, with secrets masked.
func parameters(r *http.Request, body []byte) string {
	all := r.URL.Query()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		maps.Copy(all, jsonParameters(body))
	} else if form, err := url.ParseQuery(string(body)); err == nil {
		maps.Copy(all, form)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := "***"
		if slices.Contains(harmless, name) {
			value = plain(strings.Join(all[name], " "))
		}
		fmt.Fprintf(&b, " %s=%s", plain(name), value)
	}
	for _, name := range []string{"X-MMO-Room", "X-MMO-Protoctl"} { // the platform's spelling
		if value := r.Header.Get(name); value != "" {
			fmt.Fprintf(&b, " %s=%s", name, plain(value))
		}
	}
	authorization := r.Header.Get("Authorization")
	if scheme, _, ok := strings.Cut(authorization, " "); ok && len(scheme) < 10 {
		fmt.Fprintf(&b, " [%s ***]", plain(scheme))
	} else if authorization != "" {
		b.WriteString(" [***]") // a token alone, as with calls about rooms
	}
	return b.String()
}

func jsonParameters(body []byte) url.Values {
	var object map[string]any
	_ = json.Unmarshal(body, &object) // a malformed body is the platform's business
	all := make(url.Values)
	for name, value := range object {
		all.Set(name, fmt.Sprint(value))
	}
	return all
}

// plain quotes a text that could be mistaken for something else, and shortens a long
// text.
func plain(s string) string {
	s = shorten(s, 100)
	if s == "" || strings.ContainsAny(s, " \"=") || s != oneLine(s) {
		return strconv.Quote(s)
	}
	return s
}

// shorten cuts a text that has more letters than most.
func shorten(s string, most int) string {
	letters := 0
	for i := range s {
		if letters++; letters > most {
			return s[:i] + "…"
		}
	}
	return s
}

// recorded keeps the beginning of a body that is read through it.
type recorded struct {
	from io.ReadCloser
	head bytes.Buffer
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	keep(&r.head, p[:n])
	return n, err
}

func (r *recorded) Close() error { return r.from.Close() }

// recordedAnswer keeps the status and the beginning of the body.
type recordedAnswer struct {
	http.ResponseWriter
	status int
	head   bytes.Buffer
}

func (a *recordedAnswer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *recordedAnswer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	keep(&a.head, p)
	return a.ResponseWriter.Write(p)
}

// Unwrap lets the platform flush (http.ResponseController).
func (a *recordedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// result returns the status and, if the platform refused, the reason.
func (a *recordedAnswer) result() string {
	result := strconv.Itoa(a.status)
	var refusal struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if location, err := url.Parse(a.Header().Get("Location")); err == nil {
		refusal.Error, refusal.Description = location.Query().Get("error"), location.Query().Get("error_description")
	}
	_ = json.Unmarshal(a.head.Bytes(), &refusal) // HTML pages are not JSON
	for _, text := range []string{refusal.Error, refusal.Description} {
		if text != "" {
			result += ", " + text
		}
	}
	return result
}

func keep(head *bytes.Buffer, p []byte) {
	head.Write(p[:min(len(p), maxLogged-head.Len())])
}
