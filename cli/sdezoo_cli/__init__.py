"""The command line: one file per command. Commands import torch only when they need it."""
