"""Judging failures: pure functions of facts and of a call's progress. Nothing here knows Temporal, clocks or randomness."""
