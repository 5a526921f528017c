"""The examples, each run as the program that it is."""
