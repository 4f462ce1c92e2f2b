"""What a user does: read data, train, keep, sample."""
