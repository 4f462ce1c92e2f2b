"""Codecs: the invertible column transforms that make up an encoding."""
