package shangcloudtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// ask gets the user's answer to p. After AutoApprove or AutoDeny it answers at once,
// otherwise it shows the consent page.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, p *pendingConsent) {
	nonce := rand.Text()
	now := s.settings.Load().now()
	s.mu.Lock()
	auto := s.autoConsent
	_, known := s.user(auto.uid)
	if r.Context().Value(browserKey{}) != nil {
		auto = autoConsent{} // Approve and Deny answer on the consent page
	}
	if !auto.enabled {
		s.pending.put(nonce, p, now, now.Add(consentLifetime))
	}
	users := slices.Clone(s.users)
	s.mu.Unlock()

	switch {
	case !auto.enabled:
		s.consentPage(w, r, p, nonce, users)
	case auto.uid != 0 && !known:
		s.errorPage(w, r, "AutoApprove has the ID of an unknown user")
	default:
		s.finishConsent(w, r, p, auto.uid, http.StatusFound)
	}
}

// answerConsent handles the form of the consent page. The nonce works once and proves
// that the server showed this page. The form does not contain the request itself, so
// the browser cannot change it.
func (s *Server) answerConsent(w http.ResponseWriter, r *http.Request, body []byte) {
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		s.errorPage(w, r, "the form came from another site")
		return
	}
	form, refusal := parseForm(r, body)
	if refusal != nil {
		s.errorPage(w, r, refusal.description)
		return
	}
	now := s.settings.Load().now()
	uid, _ := strconv.ParseInt(form.Get("user"), 10, 64)
	s.mu.Lock()
	p, found := s.pending.take(form.Get("nonce"), now)
	_, known := s.user(uid)
	s.mu.Unlock()
	switch {
	case !found:
		s.errorPage(w, r, "this page was answered before or has expired")
	case form.Get("decision") == "deny":
		s.finishConsent(w, r, p, 0, http.StatusSeeOther)
	case form.Get("decision") != "allow" || !known:
		s.errorPage(w, r, "no user was chosen")
	default:
		s.finishConsent(w, r, p, uid, http.StatusSeeOther)
	}
}

// finishConsent carries out the user's answer. If uid is 0, the user denied the request;
// otherwise the user uid allowed it. status is the status of the redirect. After a form it
// is 303, so that the browser does not send the form to the application (RFC 9700, 4.12).
func (s *Server) finishConsent(w http.ResponseWriter, r *http.Request, p *pendingConsent, uid int64, status int) {
	switch {
	case p.device != nil:
		s.answerDevice(p.device, uid)
		s.donePage(w, r, uid != 0)
	case uid == 0:
		redirect(w, status, p.errorCallback("access_denied", "the user denied the request"))
	default:
		redirect(w, status, s.approve(p, uid))
	}
}

// returnsTo returns the part of a redirect URI that the user recognizes: its host, or
// the scheme of a native application.
func returnsTo(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil: // cannot happen: AddClient checks the URI
		return ""
	case u.Host == "":
		return u.Scheme + ":"
	default:
		return u.Host
	}
}
