"""The front: an HTTP server that speaks OpenAI's API, and whose requests are durable calls."""
