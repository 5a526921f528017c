"""Classifying failures and deciding what follows: pure functions. No Temporal, no clock, no randomness."""
