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
	deviceLifetime = 15 * time.Minute // the platform's game clients expect 900 seconds
	slowDown       = 5 * time.Second  // RFC 8628, 3.5

	// User codes have no vowels, so they form no words. No letter looks like a digit (RFC
	// 8628, 6.1).
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
	uid       int64 // the user who allowed it; 0 if it was denied
	used      bool
}

// deviceAuthorization is the device authorization endpoint (RFC 8628, 3.1). The
// platform's game clients use it.
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request, body []byte) {
	form, c, refusal := s.clientForm(r, body)
	if refusal != nil {
		writeClientError(w, refusal)
		return
	}
	settings := s.settings.Load()
	d := &device{client: c, challenge: form.Get("code_challenge"), interval: settings.deviceInterval()}
	if d.scopes, refusal = c.scopesOf(form.Get("scope")); refusal == nil {
		refusal = checkChallenge(c, d.challenge, form.Get("code_challenge_method"))
	}
	if refusal != nil {
		writeClientError(w, refusal)
		return
	}
	now := settings.now()
	d.expires = now.Add(deviceLifetime)
	deviceCode, userCode := rand.Text(), newUserCode()
	s.mu.Lock()
	// The server keeps both codes longer than they are valid, so that a late poll gets
	// expired_token.
	s.devices.put(deviceCode, d, now, now.Add(2*deviceLifetime))
	s.userCodes.put(userCode, d, now, now.Add(2*deviceLifetime))
	s.mu.Unlock()

	shown := displayUserCode(userCode)
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

// displayUserCode adds the dash that users see.
func displayUserCode(code string) string { return code[:4] + "-" + code[4:] }

func newUserCode() string {
	code := make([]byte, 8)
	for i := range code {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userCodeLetters))))
		if err != nil { // cannot happen: crypto/rand never fails
			panic(err)
		}
		code[i] = userCodeLetters[n.Int64()]
	}
	return string(code)
}

// normalUserCode removes spaces, dashes and other characters from a user code and
// changes it to upper case (RFC 8628, 6.1).
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
		return nil, invalidRequest("device_code is missing")
	}
	verifier := form.Get("code_verifier")
	challenge := challengeOf(verifier)
	settings := s.settings.Load()
	now := settings.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	d, found := s.devices.get(form.Get("device_code"), now)
	if !found || d.client.ID != c.ID || d.used {
		return nil, badRequest("invalid_grant", "the device code is unknown or was used before")
	}
	if c.PKCE != PKCEIgnored {
		if refusal := checkVerifier(d.challenge, verifier, challenge); refusal != nil {
			return nil, refusal
		}
	}
	if !now.Before(d.expires) {
		return nil, badRequest("expired_token", "")
	}
	if !d.decided {
		// Because of the network, a poll may be early by a tenth of the interval.
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

// waitingDevice returns the device with a user code. It reports false if no device waits
// for an answer with this code.
func (s *Server) waitingDevice(userCode string) (*device, bool) {
	now := s.settings.Load().now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d, found := s.userCodes.get(normalUserCode(userCode), now)
	return d, found && !d.decided && now.Before(d.expires)
}

// answerDevice carries out the user's answer. Only the first answer counts.
func (s *Server) answerDevice(d *device, uid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.decided {
		d.decided, d.uid = true, uid
	}
}

// ApproveDevice allows the request of a device as the user uid. userCode is the code that
// the device shows. ApproveDevice fails if no device waits with this code, or if the user
// is unknown.
func (s *Server) ApproveDevice(userCode string, uid int64) error {
	s.mu.Lock()
	_, known := s.user(uid)
	s.mu.Unlock()
	if !known {
		return errors.New("shangcloudtest: unknown user")
	}
	return s.answerUserCode(userCode, uid)
}

// DenyDevice denies the request of a device. userCode is the code that the device shows.
// DenyDevice fails if no device waits with this code.
func (s *Server) DenyDevice(userCode string) error {
	return s.answerUserCode(userCode, 0)
}

func (s *Server) answerUserCode(userCode string, uid int64) error {
	d, found := s.waitingDevice(userCode)
	if !found {
		return errors.New("shangcloudtest: no device waits with this user code")
	}
	s.answerDevice(d, uid)
	return nil
}

// devicePage is the verification page (RFC 8628, 3.3). It reads a user code and then
// shows the consent page. The consent page shows the code again, so that the user can
// compare it with the code on the device (RFC 8628, 5.4).
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request, _ []byte) {
	typed := r.URL.Query().Get("user_code")
	if typed == "" {
		s.userCodePage(w, r, "", false)
		return
	}
	d, found := s.waitingDevice(typed)
	if !found {
		s.userCodePage(w, r, typed, true)
		return
	}
	s.ask(w, r, &pendingConsent{client: d.client, scopes: d.scopes, device: d})
}
