"""What a user types: one verb a file."""
