"""Samplers for processes of one kind: bridges, interpolants, Lévy noise, auxiliary variables."""
