package leak_test

import (
	"errors"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/stretchr/testify/assert"
)

type quiet struct{ Secret string }

func (quiet) String() string               { return "quiet" }
func (quiet) GoString() string             { return "quiet" }
func (quiet) MarshalJSON() ([]byte, error) { return []byte(`"quiet"`), nil }

func TestPrints(t *testing.T) {
	for name, c := range map[string]struct {
		value any
		want  bool
	}{
		"text":               {"my hush-hush", true},
		"field":              {struct{ s string }{"hush-hush"}, true},
		"bytes":              {struct{ b []byte }{[]byte("hush-hush")}, true},
		"error":              {errors.New("hush-hush"), true},
		"only %x and %d":     {quiet{"hush-hush"}, true},
		"behind an any":      {map[string]any{"a": []any{"hush-hush"}}, true},
		"nothing":            {nil, false},
		"another text":       {"hush", false},
		"pointer in a field": {struct{ s *quiet }{&quiet{"hush-hush"}}, true}, // %s follows it,
	} {
		assert.Equal(t, c.want, leak.Prints(c.value, "other", "hush-hush"), name)
	}
}
