package shangcloudtest

import (
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	deviceLifetime = 15 * time.Minute // 900 s, what the platform's game clients assume
	slowDown       = 5 * time.Second  // RFC 8628, 3.5

	// Without vowels no code is a word, and no letter looks like a digit
	// (RFC 8628, 6.1).
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
)

// device is one device authorization request.
type device struct {
	client    *client
	scopes    []string
	challenge string
	interval  time.Duration
	expires   time.Time
	polled    time.Time
	decided   bool
	uid       int64 // who allowed it; 0: nobody
	used      bool
}

// deviceAuthorization is the device authorization endpoint (RFC 8628, 3.1), as
// the platform's game clients use it.
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request, body []byte) {
	form, refused := parseForm(r, body)
	if refused != nil {
		writeClientError(w, refused)
		return
	}
	c, refused := s.authenticate(r, form)
	if refused != nil {
		writeClientError(w, refused)
		return
	}
	settings := s.settings.Load()
	d := &device{client: c, challenge: form.Get("code_challenge"), interval: settings.deviceInterval()}
	if d.scopes, refused = c.scopesOf(form.Get("scope")); refused == nil {
		refused = checkChallenge(c, d.challenge, form.Get("code_challenge_method"))
	}
	if refused != nil {
		writeClientError(w, refused)
		return
	}
	now := settings.now()
	d.expires = now.Add(deviceLifetime)
	deviceCode, userCode := rand.Text(), newUserCode()
	s.mu.Lock()
	// Both are remembered for longer, so that expired_token can be told.
	s.devices.put(deviceCode, d, now, now.Add(2*deviceLifetime))
	s.userCodes.put(userCode, d, now, now.Add(2*deviceLifetime))
	s.mu.Unlock()

	shown := userCode[:4] + "-" + userCode[4:]
	page := base(r, "/oauth/device_authorization") + "/device"
	writeJSON(w, http.StatusOK, struct {
		DeviceCode              string `json:"device_code"`
		UserCode                string `json:"user_code"`
		VerificationURI         string `json:"verification_uri"`
		VerificationURIComplete string `json:"verification_uri_complete"`
		ExpiresIn               int64  `json:"expires_in"`
		Interval                int64  `json:"interval"`
	}{
		deviceCode, shown, page, page + "?" + url.Values{"user_code": {shown}}.Encode(),
		int64(deviceLifetime / time.Second), int64(d.interval / time.Second),
	})
}

func newUserCode() string {
	code := make([]byte, 8)
	for i := range code {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userCodeLetters))))
		if err != nil { // crypto/rand never fails
			panic(err)
		}
		code[i] = userCodeLetters[n.Int64()]
	}
	return string(code)
}

// normalUserCode undoes what people do to a code (RFC 8628, 6.1).
func normalUserCode(typed string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune(userCodeLetters, c) {
			return c
		}
		return -1
	}, strings.ToUpper(typed))
}

// redeemDeviceCode answers one poll (RFC 8628, 3.4 and 3.5).
func (s *Server) redeemDeviceCode(c *client, form url.Values) (*tokenAnswer, *apiError) {
	if !form.Has("device_code") {
		return nil, badRequest("invalid_request", "device_code is needed")
	}
	verifier := form.Get("code_verifier")
	challenge := challengeOf(verifier)
	settings := s.settings.Load()
	now := settings.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	d, found := s.devices.get(form.Get("device_code"), now)
	if !found || d.client.ID != c.ID || d.used {
		return nil, badRequest("invalid_grant", "the device code is unknown or was used")
	}
	if c.PKCE != PKCEIgnored {
		if refused := checkVerifier(d.challenge, verifier, challenge); refused != nil {
			return nil, refused
		}
	}
	if !now.Before(d.expires) {
		return nil, badRequest("expired_token", "")
	}
	if !d.decided {
		// A tenth is forgiven: the network, too, makes a poll come early.
		early := !d.polled.IsZero() && now.Sub(d.polled) < d.interval-d.interval/10
		d.polled = now
		if early {
			d.interval += slowDown
			return nil, badRequest("slow_down", "")
		}
		return nil, badRequest("authorization_pending", "")
	}
	if d.uid == 0 {
		return nil, badRequest("access_denied", "")
	}
	d.used = true
	return s.firstTokens(&grant{clientID: c.ID, uid: d.uid, scopes: d.scopes}, settings, now)
}

// waiting finds the device that shows a user code, if it still waits.
func (s *Server) waiting(userCode string) (*device, bool) {
	now := s.settings.Load().now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d, found := s.userCodes.get(normalUserCode(userCode), now)
	return d, found && !d.decided && now.Before(d.expires)
}

func (s *Server) settleDevice(d *device, uid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.decided {
		d.decided, d.uid = true, uid
	}
}

// ApproveDevice allows what the device asks for that shows a user code, as a user
// does on the verification page.
func (s *Server) ApproveDevice(userCode string, uid int64) error {
	s.mu.Lock()
	_, known := s.user(uid)
	s.mu.Unlock()
	if !known {
		return errors.New("shangcloudtest: no such user")
	}
	return s.answerDevice(userCode, uid)
}

// DenyDevice refuses what the device asks for that shows a user code.
func (s *Server) DenyDevice(userCode string) error {
	return s.answerDevice(userCode, 0)
}

func (s *Server) answerDevice(userCode string, uid int64) error {
	d, found := s.waiting(userCode)
	if !found {
		return errors.New("shangcloudtest: no device waits with this user code")
	}
	s.settleDevice(d, uid)
	return nil
}

// devicePage is the verification page (RFC 8628, 3.3): it takes a user code and
// then asks for consent. With a code in its address it still shows the code, for
// the user to compare (RFC 8628, 5.4).
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request, _ []byte) {
	typed := r.URL.Query().Get("user_code")
	if typed == "" {
		s.userCodePage(w, r, "", false)
		return
	}
	d, found := s.waiting(typed)
	if !found {
		s.userCodePage(w, r, typed, true)
		return
	}
	s.ask(w, r, &pendingConsent{client: d.client, scopes: d.scopes, device: d})
}
