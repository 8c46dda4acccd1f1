//go:build !unix

package docs

import (
	"errors"
	"testing"
)

func readOnlyFileOfNobody(*testing.T, *site, string) error { return errors.ErrUnsupported }
