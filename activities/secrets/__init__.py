"""Find the key for a request, and remove keys from texts."""
