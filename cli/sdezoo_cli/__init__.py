"""The command line; every command is a file, and none imports torch before it has work for it."""
