package sqlstore

import (
	"fmt"
	"regexp"
	"strings"
)

// Dialect is a kind of database. The zero value is not a valid Dialect.
type Dialect int

const (
	// PostgreSQL is version 12 and newer. PgBouncer may use transaction pooling, but not
	// statement pooling. docs/sql.md describes its settings.
	PostgreSQL Dialect = iota + 1

	// MySQL is version 5.7 and newer. In a cluster where several nodes accept writes
	// (Galera, group replication), all processes must use the same node. Other nodes do
	// not see the locks of that node.
	MySQL

	// SQLite is version 3.35 and newer. The database is a file on a local disk.
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

// maxIdentifier is the maximum length of a table's name. PostgreSQL cuts names off after
// 63 bytes. The remaining bytes are for the suffix of an index or a lock table.
const maxIdentifier = 58

// namePattern allows only names that need no escaping in any dialect. Without capital
// letters, a name means the same in databases that ignore case and in those that do not.
var namePattern = regexp.MustCompile(`^(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*$`)

// tableName is the checked name of a table. It is the only text from outside that a
// statement contains: keys and values are passed as arguments.
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

// quoted returns the name with suffix, in the quotes of d. In quotes, a name may also be
// an SQL keyword, such as order.
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
