"""A prepared model is the same model: the same weights, states in float32, results up to what its precision allows."""

import pytest
import torch

from sdezoo import NETWORKS, SAMPLERS, SDES, ScoreModel
from sdezoo.errors import ParameterError, RunError
from sdezoo.generation import acceleration as preparation
from sdezoo.generation.acceleration import prepare

CPU = torch.device("cpu")


def model(net: str = "mlp:width=16,depth=1", event: tuple[int, ...] = (3,)) -> ScoreModel:
    torch.manual_seed(0)
    made = ScoreModel(SDES.build("vp"), NETWORKS.build(net).module(event)).eval().requires_grad_(False)
    for weight in made.net.parameters():
        weight.normal_(std=0.1)
    return made


def test_float32_is_the_model_itself_with_channels_last() -> None:
    made = model("unet:width=8", (1, 8, 8))
    made.net.to(memory_format=torch.contiguous_format)
    assert prepare(made, CPU) is made
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in made.net.parameters() if w.ndim == 4)


@pytest.mark.parametrize(("net", "event"), [("mlp:width=16,depth=1", (3,)), ("unet:width=8", (1, 8, 8))])
def test_bfloat16_is_of_the_network_alone(net: str, event: tuple[int, ...]) -> None:
    plain = model(net, event)
    mixed = prepare(plain, CPU, "bf16")
    assert {w.data_ptr() for w in mixed.parameters()} == {w.data_ptr() for w in plain.parameters()}
    inside = []
    linear = next(m for m in plain.net.modules() if isinstance(m, torch.nn.Linear))
    hook = linear.register_forward_hook(lambda _m, _i, out: inside.append(out.dtype))
    states = []
    sampler = SAMPLERS.build("dpmpp-2m")
    x = sampler.sample(mixed, (4, *event), 4, callback=lambda _k, z, _t: states.append(z.dtype))
    hook.remove()
    assert set(inside) == {torch.bfloat16}
    assert {x.dtype, *states} == {torch.float32}
    exact = sampler.sample(plain, (4, *event), 4)
    assert not torch.equal(x, exact)
    # bfloat16 has 8 bits: each call errs by a few parts in 256 of what it returns.
    torch.testing.assert_close(x, exact, rtol=0.1, atol=0.1)


def test_a_processor_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.warns(UserWarning, match="no instructions for bfloat16.* Give --precision float32"):
        prepare(model(), CPU, "bf16")


def test_a_compiled_network_is_called_and_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = model()
    compiled = prepare(plain, CPU, compiled=True)
    calls = []
    plain.net.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(preparation.torch, "compile", _eager)
    compiled = prepare(plain, CPU, compiled=True)
    z, t = torch.randn(2, 3), torch.tensor(0.5, dtype=torch.float64)
    assert torch.equal(compiled.score(z, t), plain.score(z, t))
    assert compiled.net is not plain.net
    monkeypatch.setattr(preparation.torch, "compile", _broken)
    with pytest.raises(RunError, match=r"cannot be compiled here \(.*no compiler.*\).*leave out --compile"):
        prepare(plain, CPU, compiled=True).score(z, t)


def _eager(net: torch.nn.Module, *, dynamic: bool) -> torch.nn.Module:
    assert dynamic is False  # sizes met before must not change a sample
    return net


def _broken(net: torch.nn.Module, *, dynamic: bool) -> object:
    from torch._dynamo.exc import TorchDynamoException

    def call(*_: torch.Tensor) -> torch.Tensor:
        raise TorchDynamoException("no compiler")

    return call


def test_what_is_not_known_or_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match=r"precision=fp8.*float32, bf16"):
        prepare(model(), CPU, "fp8")
    monkeypatch.setattr(preparation, "_has_bfloat16", lambda _: False)
    with pytest.raises(RunError, match="'cpu' does not support bfloat16"):
        prepare(model(), CPU, "bf16")


def test_float64_is_of_the_states_alone() -> None:
    plain = model()
    wide = prepare(plain, CPU, "float64")
    inside, states = [], []
    linear = next(m for m in plain.net.modules() if isinstance(m, torch.nn.Linear))
    hook = linear.register_forward_hook(lambda _m, _i, out: inside.append(out.dtype))
    sampler = SAMPLERS.build("dpmpp-2m")
    like = torch.empty((), dtype=torch.float64)
    x = sampler.sample(wide, (4, 3), 4, like=like, callback=lambda _k, z, _t: states.append(z.dtype))
    hook.remove()
    assert set(inside) == {torch.float32}
    assert {x.dtype, *states} == {torch.float64}
    torch.testing.assert_close(x.float(), sampler.sample(plain, (4, 3), 4), rtol=1e-4, atol=1e-4)
