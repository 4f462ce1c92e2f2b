"""Score models: networks, output parameterizations, losses, priors and optimizers."""
