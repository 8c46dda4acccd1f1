package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
)

const (
	// The pause between two attempts at a lock doubles from firstPoll to maxPoll, ± 25 %.
	firstPoll = 5 * time.Millisecond
	maxPoll   = 200 * time.Millisecond

	// unlockLimit is the time limit of unlock. If unlock fails, the lock ends when its
	// lifetime is over.
	unlockLimit = 3 * time.Second

	// unknown stands for the stored value before the first load. No stored token equals
	// unknown.
	unknown = "?"
)

// saveScript saves a token if the caller still holds the lock. If the lock has expired, it
// saves only if the stored value is still the one that the caller loaded. The comparison
// with ARGV[3] lets the script succeed when go-redis sends it twice.
//
// KEYS: token, lock. ARGV: value of the caller's lock, loaded value, new value.
const saveScript = `if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  local now = redis.call('GET', KEYS[1]) or ''
  if now ~= ARGV[2] and now ~= ARGV[3] then return 'LOST' end
end
redis.call('SET', KEYS[1], ARGV[3])
return 'OK'`

// unlockScript deletes a lock if the caller still holds it.
const unlockScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`

// maxLockAge is the longest time that may pass between the lock command and its answer.
// The lifetime of a lock begins at the server, possibly seconds before the answer arrives.
// If the answer is later, LockToken gives the lock back, because the lock would end too
// early for its holder.
const maxLockAge = 2 * time.Second

// errLost is returned by a save if the lock has ended and another process has changed the
// token.
var errLost = errors.New("the lock has ended, and another process has saved or deleted the token since")

// Tokens keeps users' tokens in Redis, one key for each user of one provider. [NewTokens]
// makes it. It is safe for concurrent use, by any number of machines.
//
// The lock on a token is a separate key, which expires after the time that the holder
// asked for. A holder whose lock has expired can still save, unless another process has
// changed the token meanwhile: an older token never overwrites a newer one.
//
// The default prefix of keys is "oauth2login:tokens:". Tokens do not expire. A load and a
// save are one command each. A call that waits for a lock polls Redis. A call without a
// deadline ends after 10 seconds. See docs/redis.md for what Redis does not promise.
type Tokens struct {
	client

	mu    sync.Mutex
	locks map[string]*heldLock // of the users whose lock this process holds
}

// heldLock is a lock between LockToken and unlock. The lock may have expired in Redis.
type heldLock struct {
	value string

	// known is the stored value that the holder knows: the first value that it loaded, or
	// the last value that it saved. Later loads do not count, because after the lock has
	// expired another goroutine may have made them. If nil, nothing was loaded or saved
	// yet.
	known atomic.Pointer[string]
}

// NewTokens returns a store that uses r. It does not connect, and it never closes r.
func NewTokens(r redis.UniversalClient, opts ...Option) *Tokens {
	t := &Tokens{locks: make(map[string]*heldLock)}
	t.init(r, "tokens", opts)
	return t
}

// Format prints the prefix, whatever the verb.
func (t *Tokens) Format(f fmt.State, _ rune) {
	var c *client
	if t != nil {
		c = &t.client
	}
	c.format(f, "Tokens")
}

// User returns the store of one user's token. The key is the application's name for the
// user, and may contain any bytes. If it is empty, every call on the store returns an
// error. Stores that one Tokens returns for the same key are equal (==).
func (t *Tokens) User(key string) UserTokens { return UserTokens{t, key} }

// UserTokens is the store of one user's token, made by [Tokens.User]. It is safe for
// concurrent use. Every call on the zero value returns an error.
type UserTokens struct {
	tokens *Tokens
	user   string
}

var (
	_ oauth2login.TokenStore  = UserTokens{}
	_ oauth2login.TokenLocker = UserTokens{}
)

// Format prints the prefix, whatever the verb. It does not print the user's key.
func (u UserTokens) Format(f fmt.State, verb rune) { u.tokens.Format(f, verb) }

func (u UserTokens) check() error {
	switch {
	case u.tokens == nil:
		return (&client{kind: "tokens"}).error("user", "a zero UserTokens is no store: call Tokens.User")
	case u.user == "":
		return u.tokens.error("user", "the user's key is empty")
	}
	return nil
}

// tokenKey and lockKey have the same text in braces, so a Cluster keeps them in the same
// slot. The text begins with "u:". So it is not empty, even if the user's key begins with
// a brace.
func (u UserTokens) tokenKey() string { return u.tokens.prefix + "{u:" + u.user + "}" }
func (u UserTokens) lockKey() string  { return u.tokenKey() + ":lock" }

// LoadToken implements [oauth2login.TokenStore].
func (u UserTokens) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	const op = "load"
	if err := u.check(); err != nil {
		return nil, err
	}
	t, held := u.tokens, u.tokens.holder(u.user)
	answer, err := t.do(ctx, op, func(ctx context.Context) (any, error) { return t.send(ctx, "get", u.tokenKey()) })
	if err != nil {
		return nil, err
	}
	stored := ""
	if answer != nil {
		if stored, err = t.text(op, answer); err != nil {
			return nil, err
		}
	}
	if held != nil {
		held.known.CompareAndSwap(nil, &stored)
	}
	if answer == nil {
		return nil, nil
	}
	tok, err := tokenstore.Unmarshal([]byte(stored))
	if err != nil {
		return nil, t.error(op, "the stored data is not a token", err)
	}
	return tok, nil
}

// SaveToken implements [oauth2login.TokenStore]. If the caller's lock has expired,
// SaveToken fails if another process has saved or deleted the token since the caller
// loaded it.
func (u UserTokens) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	const op = "save"
	if err := u.check(); err != nil {
		return err
	}
	t := u.tokens
	data, err := tokenstore.Marshal(tok)
	if err != nil {
		return t.error(op, "the token is nil, or can't be written as JSON", err)
	}
	args := []any{"set", u.tokenKey(), data}
	held := t.holder(u.user)
	if held != nil {
		known := unknown
		if p := held.known.Load(); p != nil {
			known = *p
		}
		args = []any{"eval", saveScript, 2, u.tokenKey(), u.lockKey(), held.value, known, data}
	}
	answer, err := t.do(ctx, op, func(ctx context.Context) (any, error) { return t.send(ctx, args...) })
	if err != nil {
		return err
	}
	if answer == "LOST" {
		return t.error(op, errLost.Error(), errLost)
	}
	if held != nil {
		held.known.Store(new(string(data)))
	}
	return nil
}

// DeleteToken implements [oauth2login.TokenStore]. It does not wait for the lock. Use
// [oauth2login.TokenSource.Delete], which waits, so that no refresh brings the token back.
func (u UserTokens) DeleteToken(ctx context.Context) error {
	if err := u.check(); err != nil {
		return err
	}
	t := u.tokens
	_, err := t.do(ctx, "delete", func(ctx context.Context) (any, error) { return t.send(ctx, "del", u.tokenKey()) })
	return err
}

// LockToken implements [oauth2login.TokenLocker]. hold is rounded up to milliseconds, and
// measured by the server's clock. The lock is not reentrant. unlock takes at most 3
// seconds. A second call of unlock does nothing.
func (u UserTokens) LockToken(ctx context.Context, hold time.Duration) (unlock func(), err error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	var held *heldLock
	for pause := firstPoll; ; pause = min(2*pause, maxPoll) {
		// Each attempt has a different value. So a delayed unlock of an earlier attempt
		// can't end the lock of a later attempt.
		held = &heldLock{value: rand.Text()}
		locked, err := u.tryLock(ctx, held, hold)
		if err != nil {
			return nil, err
		}
		if locked {
			break
		}
		if err := wait(ctx, pause); err != nil {
			return nil, u.tokens.failed("lock", err, err)
		}
	}
	u.tokens.setHolder(u.user, held)
	return sync.OnceFunc(func() {
		u.tokens.dropHolder(u.user, held)
		u.unlock(held)
	}), nil
}

// tryLock takes the lock if it is free. If there is an error, the server may still have
// set the lock, so tryLock gives it back.
//
// The lock command goes on after the end of ctx, and the unlock waits for its answer. An
// earlier unlock could arrive before the lock command, which would then leave a lock that
// nobody gives back.
func (u UserTokens) tryLock(ctx context.Context, held *heldLock, hold time.Duration) (bool, error) {
	t := u.tokens
	if err := ctx.Err(); err != nil {
		return false, t.failed("lock", err, err)
	}
	sent, answered := time.Now(), make(chan struct{})
	var answer any
	var answerErr error
	go func() {
		defer close(answered)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
		defer cancel()
		// go-redis must not send this command again after a lost answer: the second
		// command would find the lock of the first.
		answer, answerErr = t.sendOnce(ctx, "set", u.lockKey(), held.value, "nx", "px", milliseconds(hold))
	}()
	locked, err := t.do(ctx, "lock", func(ctx context.Context) (any, error) {
		select {
		case <-answered:
			return answer, answerErr
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	if err != nil {
		go func() {
			<-answered
			u.unlock(held)
		}()
		return false, err
	}
	if locked != nil && time.Since(sent) > maxLockAge {
		u.unlock(held)
		return false, nil
	}
	return locked != nil, nil
}

func (u UserTokens) unlock(held *heldLock) {
	ctx, cancel := context.WithTimeout(context.Background(), unlockLimit)
	defer cancel()
	t := u.tokens
	// If this fails, the lock ends when its lifetime is over.
	_, _ = t.do(ctx, "unlock", func(ctx context.Context) (any, error) {
		return t.send(ctx, "eval", unlockScript, 1, u.lockKey(), held.value)
	})
}

// wait returns after pause ± 25 %, or when ctx is done.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause*3/4 + mathrand.N(pause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Tokens) holder(user string) *heldLock {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.locks[user]
}

func (t *Tokens) setHolder(user string, held *heldLock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.locks[user] = held
}

// dropHolder removes held from the map, unless the map already contains a newer lock of
// the user.
func (t *Tokens) dropHolder(user string, held *heldLock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.locks[user] == held {
		delete(t.locks, user)
	}
}
