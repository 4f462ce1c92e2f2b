"""Commands on data and on runs."""
