"""Recorded calls: replayed with this code, and decided again by today's policy."""
