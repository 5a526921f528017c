"""What an attempt needs from Temporal: its prompt, heartbeats, and a server that takes its completion."""
