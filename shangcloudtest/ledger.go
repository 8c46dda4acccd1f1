package shangcloudtest

import "time"

// ledgerLimit is the number of codes or tokens of one kind that the server keeps. It
// bounds the memory of a load test that runs for hours.
const ledgerLimit = 100_000

// ledger keeps values until they expire. Each put removes expired values, the oldest first.
// The zero value is an empty ledger. A ledger has no lock: the caller must hold one.
type ledger[V any] struct {
	entries map[string]entry[V]
	order   []string // all keys in the order of put; take leaves its keys here
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func (l *ledger[V]) put(key string, value V, now, expires time.Time) {
	for len(l.order) > 0 {
		oldest := l.order[0]
		if len(l.order) < ledgerLimit && now.Before(l.entries[oldest].expires) {
			break
		}
		delete(l.entries, oldest)
		l.order = l.order[1:]
	}
	if l.entries == nil {
		l.entries = make(map[string]entry[V])
	}
	l.entries[key] = entry[V]{value, expires}
	l.order = append(l.order, key)
}

func (l *ledger[V]) get(key string, now time.Time) (V, bool) {
	e, found := l.entries[key]
	if !found || !now.Before(e.expires) {
		var none V
		return none, false
	}
	return e.value, true
}

// take returns a value and removes it.
func (l *ledger[V]) take(key string, now time.Time) (V, bool) {
	v, found := l.get(key, now)
	delete(l.entries, key)
	return v, found
}
