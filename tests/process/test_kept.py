"""What is kept between calls must not belong to the transform, or the mode, of the call that computed it."""

from functools import cache, partial

import pytest
import torch

from sdezoo.process.differentiation import outside_transforms
from sdezoo.zoo.registry import SDES
from sdezoo_plugins.sdes.shared.coalescent import lines

T = torch.tensor(0.4, dtype=torch.float64)
X = torch.tensor([0.3, 0.4, 0.5], dtype=torch.float64)
# A spec string that no other test keeps anything for, and what uses what is kept.
KEEPERS = {
    "fractional:count=1,hurst=0.6{}": lambda sde: sde.scale(T),
    "jacobi:a=2.{}": lambda sde: sde.log_prob(X[None], X[None], T),
    "levy:alpha=1.6{}": lambda sde: sde.log_prob(X[None], X[None], T),
    "product:(gbm:center=(0.1,0.2),spread=(0.3,0.{}))[1;2],vp[0]": lambda sde: sde.encode(X[None]) * sde.column_spread,
    "product:gbm[1;2],(jacobi:a=1.{})[0]": lambda sde: sde.decode_unchecked(X[None]),
    "rotation:decay={},skew=(((0,1,0),(-1,0,0),(0,0,0)),((0,0,1),(0,0,0),(-1,0,0)))": lambda sde: sde.drift(X[None], T),
    "vp:beta_max={}": lambda sde: sde.drift(X[None], T) * sde.time_at(T),
}


def serve(used):
    """Use it two transforms deep, and then where that transform is no more."""
    torch.func.hessian(lambda x: (x**2 * used().sum()).sum())(X)
    torch.func.hessian(lambda x: (x**2 * used().sum()).sum())(X)


def serve_training(used):
    """Use it in `inference_mode`, and then where it is saved for the gradient."""
    with torch.inference_mode():
        used()
    x = X.clone().requires_grad_()
    (x * used().sum()).sum().backward()


@pytest.mark.parametrize("spec", KEEPERS)
def test_a_process_keeps_nothing_of_a_transform(spec):
    for number, check in ((7, serve), (8, serve_training)):
        build = cache(partial(SDES.build, spec.format(number)))
        check(lambda build=build: KEEPERS[spec](build()))


def test_lines_of_descent_keep_nothing_of_a_transform():
    tau = torch.tensor([0.04, 0.3], dtype=torch.float64)
    for theta, check in ((2.37, serve), (2.38, serve_training)):
        check(lambda theta=theta: lines(tau, theta, 8, 0.03))


def test_a_fault_outside_transforms_is_raised():
    with pytest.raises(ZeroDivisionError):
        outside_transforms(lambda x: 1 / x)(0)
