"""What is learned of observed paths: SDEs of the observations, SDEs of a hidden state, and the critic of a game."""
