package shangcloudtest

import "time"

// ledgerLimit bounds the codes and tokens of one kind that are remembered: a
// load test that runs for hours must not eat the machine's memory.
const ledgerLimit = 100_000

// A ledger remembers values until they expire. The expired go when new ones
// come, oldest first. The zero value is empty and ready; its owner locks it.
type ledger[V any] struct {
	entries map[string]entry[V]
	order   []string // keys as they came, those of taken entries included
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

// take is get, once.
func (l *ledger[V]) take(key string, now time.Time) (V, bool) {
	v, found := l.get(key, now)
	delete(l.entries, key)
	return v, found
}
