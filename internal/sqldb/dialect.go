// Package sqldb is what the SQL stores have in common: the dialects of databases,
// names of tables, and errors that tell no secret.
package sqldb

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Dialect is a kind of database. What versions are needed is each store's to say.
type Dialect int

// The dialects.
const (
	PostgreSQL Dialect = iota + 1
	MySQL
	SQLite
	MariaDB
)

func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	case MariaDB:
		return "MariaDB"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// Check refuses what is no dialect.
func (d Dialect) Check() error {
	if d < PostgreSQL || d > MariaDB {
		return fmt.Errorf("dialect: %v is not one that is known", d)
	}
	return nil
}

// maxIdentifier is what PostgreSQL allows, which cuts off the rest, less some room
// for the name of an index or a lock table.
const maxIdentifier = 58

// A name that is made of these needs no escaping in any dialect, and means the same
// whether or not a database folds its case.
var tablePattern = regexp.MustCompile(`^(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*$`)

// Table is the name of a table that has been checked. Nothing else is ever written
// into the text of a statement.
type Table struct {
	Schema, Name string // unquoted; Schema may be empty
}

// ParseTable takes the name of a table, or of its schema and the table with a dot
// in between.
func ParseTable(name string) (Table, error) {
	if !tablePattern.MatchString(name) {
		return Table{}, fmt.Errorf("%q is not a name of lower-case letters, digits and '_'", name)
	}
	t := Table{Name: name}
	if schema, table, found := strings.Cut(name, "."); found {
		t = Table{schema, table}
	}
	if len(t.Schema) > maxIdentifier || len(t.Name) > maxIdentifier {
		return Table{}, fmt.Errorf("%q is longer than %d", name, maxIdentifier)
	}
	return t, nil
}

// String is the name as it was configured.
func (t Table) String() string {
	if t.Schema != "" {
		return t.Schema + "." + t.Name
	}
	return t.Name
}

// Quoted puts each part of the name, with suffix at its end, into the quotes of a
// dialect: "order" is a table, too.
func (t Table) Quoted(d Dialect, suffix string) string {
	quote := `"`
	if d == MySQL || d == MariaDB {
		quote = "`"
	}
	name := quote + t.Name + suffix + quote
	if t.Schema != "" {
		name = quote + t.Schema + quote + "." + name
	}
	return name
}

// MaxKey is the length of the longest key, in bytes.
const MaxKey = 255

// CheckKey refuses keys that are too long. It does not quote them.
func CheckKey(key string) error {
	if key == "" {
		return errors.New("is empty")
	}
	if len(key) > MaxKey {
		return fmt.Errorf("is longer than %d bytes", MaxKey)
	}
	return nil
}
