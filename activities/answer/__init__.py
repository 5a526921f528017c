"""Read a successful response: its content, its defects, and how much of it Temporal can store."""
