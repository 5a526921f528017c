"""Durable calls for agents that are written for other libraries, one module for each library."""
