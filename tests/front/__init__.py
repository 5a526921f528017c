"""The front: an HTTP server that speaks OpenAI's API."""
