package mmo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Kind is the type of a [Value].
type Kind int

// The platform's types, and one for the rest.
const (
	KindString Kind = iota
	KindNumber
	KindBool
	KindOther // null, an array or an object
)

// typeNames are the platform's names of types. A string has none: it is the default.
var typeNames = map[Kind]string{KindNumber: "number", KindBool: "boolean"}

// Value is one value in the data of a room. The zero Value is the empty string. Values of
// the same kind and text are equal (==).
//
// It is unknown whether the platform returns a number as a number or as a string. So a
// value that was set as a number may come back with KindString. Int64, Float64 and Bool
// accept both kinds.
type Value struct {
	kind Kind
	text string
}

// StringValue returns a string. It has to be UTF-8.
func StringValue(s string) Value { return Value{KindString, s} }

// NumberValue returns a number. A [json.Number] keeps all its digits. [Client.SetData]
// refuses what JSON can't express: infinities, NaN, and a malformed json.Number.
func NumberValue[N int | int64 | uint64 | float64 | json.Number](n N) Value {
	if f, ok := any(n).(float64); ok {
		return Value{KindNumber, strconv.FormatFloat(f, 'g', -1, 64)}
	}
	return Value{KindNumber, fmt.Sprint(n)}
}

// BoolValue returns a boolean.
func BoolValue(b bool) Value { return Value{KindBool, strconv.FormatBool(b)} }

// Kind returns the type.
func (v Value) Kind() Kind { return v.kind }

// String returns a string as it is, and anything else as JSON. A number has all the digits
// that the platform sent.
func (v Value) String() string { return v.text }

// Int64 returns a whole number, such as "8", "8.0" or "8e0". Any other value is an error.
// So is a number that does not fit in an int64. With a point or an exponent, the largest
// number is 2^53.
func (v Value) Int64() (int64, error) {
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil && isNumber(v.text) {
		return n, nil
	}
	const exact = 1 << 53 // up to here every whole number is a float64
	f, err := v.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return 0, errors.New("mmo: the value is no whole number that fits")
	}
	return int64(f), nil
}

// Float64 returns a number, rounded to the nearest float64. A number that is too large is
// an error.
func (v Value) Float64() (float64, error) {
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || !isNumber(v.text) {
		return 0, errors.New("mmo: the value is no number that fits")
	}
	return f, nil
}

// Bool returns a boolean: true or false, also as a string.
func (v Value) Bool() (bool, error) {
	if v.text != "true" && v.text != "false" {
		return false, errors.New("mmo: the value is no boolean")
	}
	return v.text == "true", nil
}

// MarshalJSON writes the JSON that the value stands for.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.kind == KindString {
		return json.Marshal(v.text)
	}
	if v.kind == KindNumber && !isNumber(v.text) {
		return nil, errors.New("mmo: the value is no number")
	}
	return []byte(v.text), nil
}

// UnmarshalJSON reads any JSON.
func (v *Value) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if !json.Valid(data) {
		return errors.New("mmo: the value is not JSON")
	}
	switch data[0] {
	case '"':
		v.kind = KindString
		return json.Unmarshal(data, &v.text)
	case 't', 'f':
		v.kind = KindBool
	case 'n', '{', '[':
		v.kind = KindOther
	default:
		v.kind = KindNumber
	}
	v.text = string(data)
	return nil
}

// check checks that the platform has the value's type, and that it would receive the value
// unchanged.
func (v Value) check() error {
	switch {
	case v.kind == KindOther:
		return fmt.Errorf("%w: the value is neither a number nor a string nor a boolean", ErrInvalid)
	case v.kind == KindNumber && !isNumber(v.text):
		return fmt.Errorf("%w: the value is no number", ErrInvalid)
	case !utf8.ValidString(v.text):
		return fmt.Errorf("%w: the value is not UTF-8", ErrInvalid)
	}
	return nil
}

// isNumber reports whether text is a number in the syntax of JSON.
func isNumber(text string) bool {
	var n json.Number
	return json.Unmarshal([]byte(text), &n) == nil && n.String() == text
}
