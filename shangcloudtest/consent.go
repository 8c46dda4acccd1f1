package shangcloudtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
)

// ask lets the user decide about p: at once if AutoApprove or AutoDeny say so,
// else on the consent page.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, p *pendingConsent) {
	nonce := rand.Text()
	now := s.settings.Load().now()
	s.mu.Lock()
	how := s.consent
	_, known := s.user(how.uid)
	if by := r.Context().Value(browserKey{}); by != nil {
		how = consent{} // Approve and Deny decide for themselves
	}
	if !how.auto {
		s.pending.put(nonce, p, now, now.Add(consentLifetime))
	}
	users := append([]User(nil), s.users...)
	s.mu.Unlock()

	switch {
	case !how.auto:
		s.consentPage(w, r, p, nonce, users)
	case how.uid != 0 && !known:
		s.errorPage(w, r, "AutoApprove names a user that was not added")
	default:
		s.settle(w, r, p, how.uid, http.StatusFound)
	}
}

// decide takes the answer of the consent page. The nonce is one use's proof that
// the answer comes from a page that was shown, and all that the page sends
// back: what was asked for stays here, where nobody can change it.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, body []byte) {
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		s.errorPage(w, r, "the answer came from another site")
		return
	}
	form, refused := parseForm(r, body)
	if refused != nil {
		s.errorPage(w, r, refused.description)
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
		s.errorPage(w, r, "this page was answered already, or has expired")
	case form.Get("decision") == "deny":
		s.settle(w, r, p, 0, http.StatusSeeOther)
	case form.Get("decision") != "allow" || !known:
		s.errorPage(w, r, "no user was chosen")
	default:
		s.settle(w, r, p, uid, http.StatusSeeOther)
	}
}

// settle carries a decision out: uid allows it, or nobody if 0. The answer to a
// form is 303, with which no browser sends the form on (RFC 9700, 4.12).
func (s *Server) settle(w http.ResponseWriter, r *http.Request, p *pendingConsent, uid int64, status int) {
	switch {
	case p.device != nil:
		s.settleDevice(p.device, uid)
		s.donePage(w, r, uid != 0)
	case uid == 0:
		redirect(w, status, p.refusal("access_denied", "the user did not allow it"))
	default:
		redirect(w, status, s.approve(p, uid))
	}
}

// returnsTo is what a person recognises of a redirect URI: its host, or the
// scheme of a native application.
func returnsTo(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil: // AddClient lets none of these in
		return ""
	case u.Host == "":
		return u.Scheme + ":"
	default:
		return u.Host
	}
}
