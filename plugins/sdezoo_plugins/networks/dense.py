"""Linear layers that are faster where nothing is differentiated.

A product of float32 matrices on a CPU goes to the BLAS that torch was built with. On processors that this does not use in full, oneDNN,
which torch ships for its convolutions, is faster: 2.2 times on an EPYC with AVX-512. Both compute in float32, and differ by rounding alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdezoo.learning.bfloat16 import emulated

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_BFLOAT16 = emulated(torch.device("cpu")) is None
"""Whether oneDNN has a product of bfloat16 numbers: it has none for processors without instructions for them."""


class Dense(nn.Linear):
    """`torch.nn.Linear`, computed by oneDNN on a CPU where no derivative is taken, as in sampling.

    Under autocast to bfloat16 the product is of bfloat16 numbers, and the result float32, so that what follows need not widen it. For a few
    rows, rounding the weights takes longer than the product, which then is of float32 numbers, as it is on processors without bfloat16.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """`x Wᵀ + b`.

        Args:
            input: `(…, in_features)`.
        """
        if _ONEDNN and _is_plain(input) and type(self.weight) is nn.Parameter:
            mixed = torch.is_autocast_enabled("cpu")
            if mixed and _BFLOAT16 and input.numel() >= self.weight.numel() and torch.get_autocast_dtype("cpu") == torch.bfloat16:
                narrow = (each.bfloat16() for each in (input, self.weight, self.bias))
                return torch.ops.mkldnn._linear_pointwise(*narrow, "none", [], "").float()
            if mixed or input.dtype == torch.float32:
                return torch.ops.mkldnn._linear_pointwise(input.float(), self.weight, self.bias, "none", [], "")
        return super().forward(input)


def _is_plain(x: Tensor) -> bool:
    """Whether only the value is asked for: of a tensor in memory that nothing differentiates, transforms or traces."""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None  # pyright: ignore[reportAttributeAccessIssue]
        and torch.autograd.forward_ad._current_level < 0
    )
