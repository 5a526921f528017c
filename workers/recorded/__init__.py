"""Recorded calls: replayed with this code, and classified again by today's policy."""
