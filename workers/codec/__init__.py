"""The codec server: decrypts payloads for Temporal's UI."""
