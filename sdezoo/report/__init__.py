"""A run as one page that can be mailed: what the model is, what it learned, how good its samples are, and how it was made."""
