"""What an attempt needs of Temporal: its prompt, its heartbeats, and a server that takes its completion."""
