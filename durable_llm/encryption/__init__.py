"""Encryption of what Temporal stores."""
