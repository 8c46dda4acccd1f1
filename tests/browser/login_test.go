package browser

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What a person clicks on.
const (
	signIn  = `a.button[href^="/login"]`
	allow   = `button[value=allow]`
	deny    = `button[value=deny]`
	signOut = `form[action="/logout"] button`
)

func TestSignIn(t *testing.T) {
	s, b := newSite(t), newPerson(t)
	assert.Equal(t, 200, b.visit(s.home))
	b.click(signIn)
	assert.Equal(t, "Sign in with ShangCloud", b.text("h1"))
	b.choose(`input[value="10002"]`)
	assert.Equal(t, 200, b.click(allow))
	assert.Equal(t, "/", b.page())
	assert.Equal(t, "Ada King", b.text("h1"))
	assert.Contains(t, b.text("dl"), "ada@example.com")
}
