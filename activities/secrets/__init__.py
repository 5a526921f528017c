"""Which key goes with a request, and which texts must lose the keys that they hold."""
