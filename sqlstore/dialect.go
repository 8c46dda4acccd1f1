package sqlstore

import (
	"fmt"
	"regexp"
	"strings"
)

// Dialect is a kind of database. Its zero value is none of them.
type Dialect int

const (
	// PostgreSQL is version 12 and newer. A connection pooler such as PgBouncer may
	// pool transactions, but not single statements. See docs/sql.md for its settings.
	PostgreSQL Dialect = iota + 1

	// MySQL is version 5.7 and newer. In a cluster where several nodes accept writes
	// (Galera, group replication), all processes must use the same node: the other
	// nodes do not see its locks.
	MySQL

	// SQLite is version 3.35 and newer, in a file on a local disk.
	SQLite

	// MariaDB is version 10.5 and newer. For clusters see [MySQL].
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

func (d Dialect) known() bool { return PostgreSQL <= d && d <= MariaDB }

// sqliteNow is an SQLite expression for the time in milliseconds since 1970.
const sqliteNow = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)`

// maxIdentifier is the length of the longest name of a table. PostgreSQL cuts names
// off after 63 bytes. The rest is for the suffix of an index or a lock table.
const maxIdentifier = 58

// A name of these characters needs no escaping in any dialect, and has the same
// meaning whether or not a database folds upper and lower case.
var namePattern = regexp.MustCompile(`^(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*$`)

// tableName is the checked name of a table. Statements contain no other text from
// outside: keys and values are arguments.
type tableName struct {
	schema, name string // schema may be empty
}

func parseTableName(s string) (tableName, error) {
	if !namePattern.MatchString(s) {
		return tableName{}, fmt.Errorf("%q is not a name of lower-case letters, digits and '_'", s)
	}
	t := tableName{name: s}
	if schema, name, found := strings.Cut(s, "."); found {
		t = tableName{schema, name}
	}
	if len(t.schema) > maxIdentifier || len(t.name) > maxIdentifier {
		return tableName{}, fmt.Errorf("%q has a part of more than %d characters", s, maxIdentifier)
	}
	return t, nil
}

// String returns the name as it was configured.
func (t tableName) String() string {
	if t.schema != "" {
		return t.schema + "." + t.name
	}
	return t.name
}

// quoted returns the name with suffix, in the quotes of d. The quotes allow names
// such as order, which are words of SQL.
func (t tableName) quoted(d Dialect, suffix string) string {
	quote := `"`
	if d == MySQL || d == MariaDB {
		quote = "`"
	}
	name := quote + t.name + suffix + quote
	if t.schema != "" {
		name = quote + t.schema + quote + "." + name
	}
	return name
}

// unqualified returns the name without its schema.
func (t tableName) unqualified() tableName { return tableName{name: t.name} }
