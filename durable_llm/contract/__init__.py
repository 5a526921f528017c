"""What crosses a process boundary: messages, names, and the words for what can happen."""
