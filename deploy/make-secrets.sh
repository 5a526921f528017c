#!/bin/sh
# Make the two databases' passwords once, and the folder for provider keys.
#
# The containers run under users of their own, so the files are readable to all and the folder around them to its owner
# alone: from the host nobody else gets in, and a mounted file is reached without passing the folder.
set -eu

cd "$(dirname "$0")"
mkdir -p secrets/keys
chmod 700 secrets
chmod 755 secrets/keys

for name in postgres_password store_password; do
    if [ ! -s "secrets/$name" ]; then
        LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 >"secrets/$name"
        chmod 644 "secrets/$name"
        echo "made deploy/secrets/$name"
    fi
done
echo "provider keys: one file each in deploy/secrets/keys, then in a spec: api_key=\"secrets/FILENAME\""
