"""Agents of others, each with its published package in an environment of its own."""
