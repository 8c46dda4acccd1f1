package mmo

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// rosterBytes limits the list of members, because anybody in the room can announce any
// number of uids. Members beyond the limit are not in the list.
const rosterBytes = 16 << 20

// roster is the list of members that a client keeps.
type roster struct {
	mu      sync.Mutex
	members map[string]string // nickname by uid
	bytes   int
}

// memberBytes estimates the memory of one entry.
func memberBytes(m Member) int { return len(m.UID) + len(m.Nickname) + 100 }

func (r *roster) join(m Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(m.UID)
	r.add(m)
}

func (r *roster) leave(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(uid)
}

// replace sets the whole list and reports whether it has changed.
func (r *roster) replace(members []Member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.members
	r.members, r.bytes = make(map[string]string, len(members)), 0
	for _, m := range members {
		r.remove(m.UID) // a uid may be there twice
		r.add(m)
	}
	return !maps.Equal(before, r.members)
}

func (r *roster) has(uid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.members[uid]
	return ok
}

// list returns the members sorted by uid.
func (r *roster) list() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Member, 0, len(r.members))
	for uid, nickname := range r.members {
		list = append(list, Member{uid, nickname})
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.UID, b.UID) })
	return list
}

func (r *roster) add(m Member) {
	if r.bytes+memberBytes(m) > rosterBytes {
		return
	}
	if r.members == nil {
		r.members = make(map[string]string)
	}
	r.members[m.UID] = m.Nickname
	r.bytes += memberBytes(m)
}

func (r *roster) remove(uid string) {
	if nickname, ok := r.members[uid]; ok {
		delete(r.members, uid)
		r.bytes -= memberBytes(Member{uid, nickname})
	}
}
