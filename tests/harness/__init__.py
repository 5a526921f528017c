"""Whole runs with real parts: the demo, the chaos run, and what both are made of."""
