#!/bin/sh
# Make the database's password, an encryption key and the codec server's token once, and the folder for provider keys.
#
# The containers run under users of their own, so the files are readable to all and the folder around them to its owner
# alone: from the host nobody else gets in, and a mounted file is reached without passing the folder.
set -eu

cd "$(dirname "$0")"
mkdir -p secrets/keys secrets/encryption
chmod 700 secrets
chmod 755 secrets/keys secrets/encryption

letters() {
    LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32
}

if [ ! -s secrets/postgres_password ]; then
    letters >secrets/postgres_password
    chmod 644 secrets/postgres_password
    echo "made deploy/secrets/postgres_password"
fi
if [ ! -s secrets/encryption/keys ]; then
    printf '%s=%s\n' "$(date +%Y-%m)" "$(head -c 32 /dev/urandom | base64)" >secrets/encryption/keys
    chmod 644 secrets/encryption/keys
    echo "made deploy/secrets/encryption/keys, not used unless .env says so (docs/encryption.md)"
fi
if [ ! -s secrets/codec_token ]; then
    letters >secrets/codec_token
    chmod 644 secrets/codec_token
    echo "made deploy/secrets/codec_token"
fi
echo "provider keys: one file each in deploy/secrets/keys, then in a spec: api_key=\"secrets/FILENAME\""
