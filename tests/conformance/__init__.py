"""The laws hold for what is right, and kill what is wrong."""
