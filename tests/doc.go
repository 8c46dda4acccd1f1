// Package tests holds the tests that need real servers, or modules on which the library
// itself does not depend. In these tests, several processes share one row of PostgreSQL or
// MariaDB, connections break, and processes are killed.
//
// Environment variables name the servers. If a variable is not set, the tests start a
// private server, which they stop at the end. Private servers need the programs in this
// list:
//
//   - SHANGCLOUD_TEST_POSTGRES is the URL of a PostgreSQL database for pgx. Its user
//     may create tables and roles and end connections. Programs: initdb and postgres
//     (Debian: postgresql).
//   - SHANGCLOUD_TEST_MYSQL is the address of a MariaDB or MySQL database for
//     go-sql-driver/mysql. Its user has the same rights. Programs: mariadbd and
//     mariadb-install-db (Debian: mariadb-server).
//   - SHANGCLOUD_TEST_REDIS is the URL of a Redis, with a user who may do everything.
//     Program: redis-server (Debian: redis-server). Clusters are always private.
//   - PgBouncer is always private. It runs in front of the PostgreSQL server.
//     Program: pgbouncer (Debian: pgbouncer).
//
// If its server is missing, a test skips. With SHANGCLOUD_NO_SKIP=1 it fails instead.
//
// SHANGCLOUD_LONG_TESTS=1 makes the tests longer. The tests with several processes run for
// minutes. More tests go through PgBouncer. Tests with many logins run more logins. Tests
// of broken connections and of processes that stop responding run only then.
package tests
