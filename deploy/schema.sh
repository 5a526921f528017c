#!/bin/sh
# Bring both databases to the schema of this image's Temporal version: makes what is missing, changes nothing else.
# It runs before the server at every start, which is also the order of an upgrade.
set -eu

: "${POSTGRES_HOST:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD_FILE:?}"
SQL_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") # the name that temporal-sql-tool reads
: "${SQL_PASSWORD:?the password file is empty}"
export SQL_PASSWORD

sql_tool() {
    temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_HOST" -p 5432 -u "$POSTGRES_USER" "$@"
}

# An existing database is left as it is, and setup-schema does not take one with tables back to version 0.0.
prepare() {
    sql_tool --db "$1" create
    sql_tool --db "$1" setup-schema -v 0.0
    sql_tool --db "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

prepare temporal temporal
prepare temporal_visibility visibility
echo "schema: temporal and temporal_visibility are up to date"
