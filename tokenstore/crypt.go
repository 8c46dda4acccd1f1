package tokenstore

import (
	"errors"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
)

// A sealer encrypts tokens. Without keys it leaves them as they are: JSON, which
// begins with '{', and what is sealed does not.
type sealer struct {
	keys      *seal.Keys // nil: none
	plaintext bool       // what is not encrypted is read too, though there are keys
}

func newSealer(keys [][]byte, plaintext bool) (*sealer, error) {
	if len(keys) == 0 {
		return &sealer{}, nil
	}
	k, err := seal.New(keys)
	if err != nil {
		return nil, err
	}
	return &sealer{k, plaintext}, nil
}

// seal encrypts a token for a user's row: it opens nowhere else.
func (s *sealer) seal(data []byte, table, user string) []byte {
	if s.keys == nil {
		return data
	}
	return s.keys.Seal(data, "token", table, user)
}

var (
	errNotEncrypted = errors.New("the stored token is not encrypted, and ReadPlaintext is not set")
	errNoKeys       = errors.New("the stored token is encrypted, and there are no Keys")
	errUnknownKey   = errors.New("the stored token is encrypted with a key that is not one of Keys")
	errAltered      = errors.New("the stored token was altered, or copied from another user or table")
	errFormat       = errors.New("what is stored is not a token")
)

// open undoes seal.
func (s *sealer) open(data []byte, table, user string) ([]byte, error) {
	switch {
	case len(data) == 0:
		return nil, errFormat
	case data[0] == '{' && s.keys != nil && !s.plaintext:
		return nil, errNotEncrypted
	case data[0] == '{':
		return data, nil
	case data[0] == seal.V1 && s.keys == nil:
		return nil, errNoKeys
	case s.keys == nil:
		return nil, errFormat
	}
	plain, err := s.keys.Open(data, "token", table, user)
	switch {
	case errors.Is(err, seal.ErrUnknownKey):
		return nil, errUnknownKey
	case errors.Is(err, seal.ErrAltered):
		return nil, errAltered
	case err != nil:
		return nil, errFormat
	}
	return plain, nil
}
