"""Test problems with known answers, on which the laws try a plugin."""
