"""Entry points: train, sample, evaluate, compute likelihoods, show a run."""
