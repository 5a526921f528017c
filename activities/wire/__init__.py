"""Send one HTTP request, record it, and read its bytes."""
