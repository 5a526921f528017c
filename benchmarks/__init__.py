"""Measurements against stated bars."""
