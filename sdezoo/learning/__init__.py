"""The score: networks, what their output means, and the losses that teach it."""
