#!/bin/sh
# Make the databases' passwords, an encryption key and the codec server's token once, and the folder for provider keys.
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

for name in postgres_password store_password codec_token; do
    if [ ! -s "secrets/$name" ]; then
        letters >"secrets/$name"
        chmod 644 "secrets/$name"
        echo "made deploy/secrets/$name"
    fi
done
if [ ! -s secrets/encryption/keys ]; then
    printf '%s=%s\n' "$(date +%Y-%m)" "$(head -c 32 /dev/urandom | base64)" >secrets/encryption/keys
    chmod 644 secrets/encryption/keys
    echo "made deploy/secrets/encryption/keys, not used unless .env says so (docs/encryption.md)"
fi
echo "provider keys: one file each in deploy/secrets/keys, then in a spec: api_key=\"secrets/FILENAME\""
