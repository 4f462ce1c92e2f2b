"""The tests: laws on problems whose answers are known."""
