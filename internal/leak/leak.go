// Package leak finds secrets in the printed text of values.
package leak

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Prints prints v with package fmt, using several verbs, and with encoding/json. It reports
// whether the output contains one of the secrets: as text, in hexadecimal, or as a list of
// bytes.
func Prints(v any, secrets ...string) bool {
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, v))
	}
	if text, err := json.Marshal(v); err == nil {
		texts = append(texts, string(text))
	}
	all := strings.Join(texts, "\n")
	for _, secret := range secrets {
		for _, form := range []string{
			secret,
			fmt.Sprintf("%x", secret),
			strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
			strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(secret)), "[]byte{"), "}"),
		} {
			if strings.Contains(all, form) {
				return true
			}
		}
	}
	return false
}
