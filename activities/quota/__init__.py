"""What a worker tells the workflow of a quota, and the rate that this workflow sets."""
