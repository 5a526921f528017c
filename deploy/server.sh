#!/bin/sh
# Start the Temporal server with the password from a file: the image itself takes it from the environment alone.
set -eu

: "${POSTGRES_PASSWORD_FILE:?}"
POSTGRES_PWD=$(cat "$POSTGRES_PASSWORD_FILE")
: "${POSTGRES_PWD:?the password file is empty}"
export POSTGRES_PWD

exec /etc/temporal/entrypoint.sh
