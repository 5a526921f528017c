"""Reading a response that succeeded: what it says, what is wrong with it, and how much of it can be stored."""
