"""One HTTP request: sent once, recorded, and its bytes read."""
