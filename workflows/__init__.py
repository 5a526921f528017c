"""The deterministic side: the call, and the pure policy that it follows."""
