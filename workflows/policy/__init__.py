"""Judging failures: pure functions of facts and of a call's progress. No Temporal, no clock, no randomness."""
