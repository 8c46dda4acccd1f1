package oauth2login

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

// pendingLogin is the data of a pending login. Only the exported fields are stored.
type pendingLogin struct {
	Verifier string   `json:"v,omitempty"`
	ReturnTo string   `json:"r,omitempty"`
	Value    []byte   `json:"d,omitempty"`
	Scopes   []string `json:"s,omitempty"`
	Nonce    string   `json:"n,omitempty"`
	Redirect string   `json:"u,omitempty"` // the redirect URL, unless it is the first one
	Expires  int64    `json:"e"`           // Unix milliseconds

	params []oauth2.AuthCodeOption
}

// underWay reports whether l has begun and has not expired. Another machine may have set
// l.Expires by its own clock. The parameter behind is how far this machine's clock may be
// behind that clock, and ahead is how far it may be ahead.
func (l *pendingLogin) underWay(now time.Time, lifetime, behind, ahead time.Duration) bool {
	left := time.UnixMilli(l.Expires).Sub(now)
	return left > -ahead && left <= lifetime+behind
}

// notUnderWay returns the error for a login that is not under way. It tells an operator
// how far the clocks differ.
func (l *pendingLogin) notUnderWay(now time.Time, lifetime time.Duration) error {
	left := time.UnixMilli(l.Expires).Sub(now)
	text := fmt.Sprintf("too late: the login expired %v ago by this machine's clock", -left.Round(time.Second))
	if left > lifetime {
		text = fmt.Sprintf("the login began %v in the future of this machine's clock", (left - lifetime).Round(time.Second))
	}
	return quiet.New("", text, ErrStateNotFound)
}

// A place identifies one pending login at one provider.
type place struct {
	provider, kind string
	key            string // in the store: a hash of the state
	secret         string // from the browser's cookie; in an unbound login, the state
}

// pendingLogins stores pending logins: in a store, or in the browser's cookie.
type pendingLogins interface {
	// keep stores l. carry is the text that the cookie has to contain besides the secret.
	// It is empty if l is in a store.
	keep(ctx context.Context, at place, l *pendingLogin) (carry string, err error)

	// redeem returns the login that was stored at a place, once. carried is the carry of
	// the cookie. If there is no login, the error is ErrStateNotFound.
	redeem(ctx context.Context, at place, carried string) (*pendingLogin, error)

	// isRedeemed reports whether this process has redeemed the state with this key.
	isRedeemed(key string) bool
}

var (
	_ pendingLogins = (*storedLogins)(nil)
	_ pendingLogins = (*sealedLogins)(nil)
)

const (
	// storeSkew is how far a store's clock and this machine's clock may differ. This
	// machine refuses a login that expired more than storeSkew ago, even if the store
	// still has the login: the store's clock may have been set back, or the store may
	// keep entries for too long.
	storeSkew = 5 * time.Minute

	// sealedSkew is how far the clocks of two machines may be apart.
	sealedSkew = time.Minute

	// maxSealed is the maximum length of a sealed login. With the cookie's name and
	// attributes it stays below the 4096 bytes that browsers keep (RFC 6265, section
	// 6.1).
	maxSealed = 3 << 10
)

// storedLogins keeps logins in a [state.Store]. An entry is encrypted with a key that is
// derived from the secret in the browser's cookie. Someone who reads the store learns
// nothing. Someone who writes to the store can forge nothing.
type storedLogins struct {
	store    state.Store
	lifetime time.Duration
	redeemed *redeemed
}

func (s *storedLogins) keep(ctx context.Context, at place, l *pendingLogin) (string, error) {
	value, err := encode(l)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	sealed := at.keys().Seal(value, "entry", at.kind, at.key)
	if err := s.store.Put(ctx, at.key, sealed, s.lifetime); err != nil {
		return "", storeFailed(ctx, err)
	}
	return "", nil
}

func (s *storedLogins) redeem(ctx context.Context, at place, _ string) (*pendingLogin, error) {
	// If the browser disconnects, the call goes on. Otherwise it would be unclear whether
	// the state was taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
	defer cancel()
	sealed, found, err := s.store.Take(ctx, at.key)
	if err != nil {
		return nil, storeFailed(ctx, err)
	}
	if !found {
		return nil, ErrStateNotFound
	}
	l := new(pendingLogin)
	value, err := at.keys().Open(sealed, "entry", at.kind, at.key)
	if err != nil || json.Unmarshal(value, l) != nil {
		return nil, storeFailed(ctx, quiet.New("", "it returned what was never stored"))
	}
	if now := time.Now(); !l.underWay(now, s.lifetime, storeSkew, storeSkew) {
		return nil, l.notUnderWay(now, s.lifetime)
	}
	if !s.redeemed.first(at.key, l.Expires) {
		return nil, ErrStateNotFound
	}
	return l, nil
}

func (s *storedLogins) isRedeemed(key string) bool { return s.redeemed.has(key) }

// keys returns the keys for one browser and one provider.
func (at place) keys() *seal.Keys { return seal.FromSecret(at.secret, "entry "+at.provider) }

func storeFailed(ctx context.Context, err error) error {
	return quiet.New("", "state store: "+quiet.DescribeForeign(err), err, ctx.Err(), ErrStateStore)
}

// sealedLogins keeps a login in its cookie, encrypted with the application's keys.
type sealedLogins struct {
	keys     *seal.Keys
	lifetime time.Duration
	redeemed *redeemed

	// If this process sealed a login, the login also ends by the monotonic clock, which
	// nobody can set.
	process string // random
	start   time.Time
}

func newSealedLogins(keys *seal.Keys, lifetime time.Duration) *sealedLogins {
	return &sealedLogins{
		keys: keys, lifetime: lifetime, redeemed: newRedeemed(lifetime + sealedSkew),
		process: rand.Text()[:12], start: time.Now(),
	}
}

// sealedLogin is the content of a cookie before encryption.
type sealedLogin struct {
	*pendingLogin
	Process string `json:"p"`
	Uptime  int64  `json:"t"` // of the process, in milliseconds
}

func (s *sealedLogins) uptime() time.Duration { return time.Since(s.start) }

// keep encrypts l for the cookie. If l is too long, keep drops its return path.
func (s *sealedLogins) keep(_ context.Context, at place, l *pendingLogin) (string, error) {
	for {
		value, err := encode(sealedLogin{l, s.process, s.uptime().Milliseconds()})
		if err != nil {
			return "", err
		}
		carry := base64.RawURLEncoding.EncodeToString(s.keys.Seal(value, "login", at.provider, at.kind, at.key))
		if len(carry) <= maxSealed {
			return carry, nil
		}
		if l.ReturnTo == "" {
			return "", quiet.New("", "WithScopes: too long for a cookie")
		}
		l.ReturnTo = ""
	}
}

// redeem fails if the login has expired by this machine's clock, or if that clock was set
// back by more than sealedSkew. If this process sealed the login, the login also ends by
// the monotonic clock.
func (s *sealedLogins) redeem(_ context.Context, at place, carried string) (*pendingLogin, error) {
	l, err := s.open(at, carried)
	if err != nil {
		return nil, err
	}
	if !s.redeemed.first(at.key, l.Expires) {
		return nil, ErrStateNotFound
	}
	return l, nil
}

func (s *sealedLogins) isRedeemed(key string) bool { return s.redeemed.has(key) }

func (s *sealedLogins) open(at place, carried string) (*pendingLogin, error) {
	if len(carried) > maxSealed {
		return nil, ErrStateNotFound
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(carried)
	if err != nil {
		return nil, ErrStateNotFound
	}
	value, err := s.keys.Open(sealed, "login", at.provider, at.kind, at.key)
	if err != nil {
		return nil, ErrStateNotFound
	}
	l := sealedLogin{pendingLogin: new(pendingLogin)}
	if json.Unmarshal(value, &l) != nil {
		return nil, ErrStateNotFound
	}
	if now := time.Now(); !l.underWay(now, s.lifetime, sealedSkew, 0) {
		return nil, l.notUnderWay(now, s.lifetime)
	}
	if l.Process == s.process && s.uptime() >= s.lifetime+time.Duration(l.Uptime)*time.Millisecond {
		return nil, ErrStateNotFound
	}
	return l.pendingLogin, nil
}

// encode is json.Marshal without HTML escapes, which turn one byte into six.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// maxRedeemed is how many redeemed states a process remembers.
const maxRedeemed = 100_000

// redeemed remembers the states that this process has redeemed, so that each works only
// once. When it is full, it forgets the logins that expire first. From then on it refuses
// all logins that expire as early as those, because it can't know which of them were
// redeemed.
type redeemed struct {
	keep  time.Duration
	start time.Time

	mu    sync.Mutex
	byKey map[string]redemption
	floor int64 // logins that expire at this time or before are refused; Unix milliseconds
}

type redemption struct {
	expires int64         // of the login, Unix milliseconds
	until   time.Duration // when to forget it: time since start, by the monotonic clock
}

func newRedeemed(keep time.Duration) *redeemed {
	return &redeemed{keep: keep, start: time.Now(), byKey: make(map[string]redemption)}
}

// first reports whether the state with this key is redeemed for the first time, and
// records that it is redeemed now. expires is when its login ends.
func (r *redeemed) first(key string, expires int64) bool {
	now := time.Since(r.start)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.byKey[key]; again || expires <= r.floor {
		return false
	}
	if len(r.byKey) >= maxRedeemed {
		r.makeRoom(now)
	}
	r.byKey[key] = redemption{expires, now + r.keep}
	return expires > r.floor
}

func (r *redeemed) has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.byKey[key]
	return ok
}

// makeRoom forgets the expired entries. If these are less than a sixteenth of all
// entries, makeRoom also forgets the sixteenth that expires first.
func (r *redeemed) makeRoom(now time.Duration) {
	live := make([]int64, 0, len(r.byKey))
	for key, entry := range r.byKey {
		if now >= entry.until {
			delete(r.byKey, key)
			continue
		}
		live = append(live, entry.expires)
	}
	if len(live) <= maxRedeemed-maxRedeemed/16 {
		return
	}
	slices.Sort(live)
	r.floor = max(r.floor, live[len(live)/16])
	for key, entry := range r.byKey {
		if entry.expires <= r.floor {
			delete(r.byKey, key)
		}
	}
}

// hash returns a hash of s that is specific to the provider and the purpose. It has 43
// letters, digits, '-' and '_'. The parts of the input are separated by NUL bytes, so no
// part may contain one.
func (p *Provider) hash(purpose, s string) string {
	var buf [128]byte // large enough to avoid an allocation, unless a cookie is forged
	b := append(append(append(buf[:0], p.id...), 0), purpose...)
	sum := sha256.Sum256(append(append(b, 0), s...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
