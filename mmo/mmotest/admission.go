package mmotest

import (
	"container/list"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// TestRoom is the connect key of the shared public test room. Anybody can use it, any
// number of times. It is also the ID of this room in [Edge.Members] and other methods.
const TestRoom = "shangcloud_mmo_test"

// maxKeys is the maximum number of unused keys. When there are more, the oldest key becomes
// invalid.
const maxKeys = 100_000

// Admit lets the holder of a connect key into a room, as the account uid. uid may be "".
// The key is good for one connection. If the same key is still unused, this call replaces
// it. An empty key, and one of more than 256 bytes, is never accepted.
func (e *Edge) Admit(room, connectKey, uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.keys.add(admission{room, connectKey, uid})
	}
}

// admission is an unused key.
type admission struct{ room, key, uid string }

// keyring holds the unused keys, the oldest first.
type keyring struct {
	order *list.List // of admission
	byKey map[string]*list.Element
}

func newKeyring() *keyring { return &keyring{list.New(), make(map[string]*list.Element)} }

func (k *keyring) add(a admission) {
	if len(a.key) == 0 || len(a.key) > edge.MaxConnectKey || a.key == TestRoom {
		return
	}
	k.take(a.key)
	if len(k.byKey) >= maxKeys {
		k.take(k.order.Front().Value.(admission).key)
	}
	k.byKey[a.key] = k.order.PushBack(a)
}

// take removes a key.
func (k *keyring) take(key string) (a admission, ok bool) {
	element, ok := k.byKey[key]
	if !ok {
		return admission{}, false
	}
	delete(k.byKey, key)
	return k.order.Remove(element).(admission), true
}

// in returns the unused keys of a room, the oldest first.
func (k *keyring) in(room string) (found []admission) {
	for element := k.order.Front(); element != nil; element = element.Next() {
		if a := element.Value.(admission); a.room == room {
			found = append(found, a)
		}
	}
	return found
}

// redeem uses the key of a login. m is the payload that carried it.
func (e *Edge) redeem(key string, m edge.Message) (admission, bool) {
	if key == TestRoom {
		// This key stays valid. So e.logins recognizes a recorded login that is sent again.
		return admission{TestRoom, key, ""}, e.logins.Fresh(m)
	}
	return e.keys.take(key)
}
