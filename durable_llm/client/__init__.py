"""What a caller does: submit calls, attach to them, await them."""
