"""Settings shared by all tests: one thread (the tensors are small), examples that are the same in every run."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("sdezoo", deadline=None, derandomize=True)
settings.load_profile("sdezoo")
