// Package tests holds the tests that need real servers or modules that the library
// itself does without: several processes on one row of PostgreSQL and MariaDB,
// connections that break, processes that are killed.
//
// A server is that of the environment, or a private one that the tests start if its
// programs are installed, and stop:
//
//   - SHANGCLOUD_TEST_POSTGRES is the URL of a PostgreSQL database for pgx, with a
//     user who may create tables and roles and end connections. Without it,
//     initdb and postgres (Debian: postgresql).
//   - SHANGCLOUD_TEST_MYSQL is the address of a MariaDB or MySQL database for
//     go-sql-driver/mysql, with such a user. Without it, mariadbd and
//     mariadb-install-db (Debian: mariadb-server).
//   - SHANGCLOUD_TEST_REDIS is the URL of a Redis, with a user who may do everything.
//     Without it, redis-server (Debian: redis-server). A cluster is always a
//     private one.
//   - pgbouncer (Debian: pgbouncer) is always a private one, before either PostgreSQL.
//
// A test whose server is missing skips. With SHANGCLOUD_NO_SKIP=1 it fails instead.
// With SHANGCLOUD_LONG_TESTS=1 the tests of several processes run for minutes, more of
// them go through PgBouncer, tests with many logins have more of them, and broken
// connections and processes that fall silent are tested as well.
package tests
