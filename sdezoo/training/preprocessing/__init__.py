"""Preprocessing: from the user's units to the support of a process, by codecs that are fitted once."""
