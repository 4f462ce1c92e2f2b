"""The laws that every plugin obeys, for plugin authors: `sde_laws`, `loss_laws` and `sampler_laws` are lists of tests."""
