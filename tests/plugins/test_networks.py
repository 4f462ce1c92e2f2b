"""Networks that are not ours: what they are asked and what they are refused."""

import sys
import types

import pytest
import torch
from torch import nn

from sdezoo.errors import PluginError
from sdezoo.learning.bfloat16 import emulated
from sdezoo.zoo.registry import NETWORKS
from sdezoo_plugins.networks.dense import Dense
from sdezoo_plugins.networks.unet_blocks import Attention


class Own(nn.Module):
    def __init__(self, shape, classes=None):
        super().__init__()
        self.shape, self.classes = shape, classes

    def forward(self, x, level, condition=None):
        return 0 * x


@pytest.fixture
def mine(monkeypatch):
    home = types.ModuleType("mine")
    home.Own, home.nets, home.word = Own, nn, "word"
    monkeypatch.setitem(sys.modules, "mine", home)


@pytest.mark.usefixtures("mine")
def test_a_class_of_an_imported_module_is_a_network():
    network = NETWORKS.build("module:path=mine.Own")
    made = network.module((2, 3), 4)
    assert isinstance(made, Own)
    assert (made.shape, made.classes) == ((2, 3), 4)
    assert network.module((2,)).classes is None
    assert network.spec == "module:path=mine.Own"


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("yours.Own", "'yours' of the network 'yours.Own' is not imported. Give --plugin yours"),
        ("mine.Other", "not a subclass of torch.nn.Module"),
        ("mine.word", "not a subclass of torch.nn.Module"),
        ("Own", "is not imported"),
        ("torch.nn.Bilinear", "cannot be built as Bilinear"),
        ("os.system", "not a subclass of torch.nn.Module"),
    ],
)
def test_other_paths_are_refused(path, message):
    with pytest.raises(PluginError, match=message):
        NETWORKS.build(f"module:path={path}").module((3,))


def test_nothing_is_imported_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="not imported"):
        NETWORKS.build("module:path=planted.Net").module((3,))


def test_diffusers_unet():
    pytest.importorskip("diffusers", reason="the extra diffusers is not installed")
    network = NETWORKS.build("diffusers-unet:width=8")
    assert "multiples of 2" in network.refuses((1, 7, 7))
    assert network.refuses((1, 8, 8)) is None
    torch.manual_seed(0)
    module = network.module((1, 8, 8), 3).eval()
    x, level = torch.randn(4, 1, 8, 8), torch.linspace(-2, 1.5, 4)
    assert not module(x, level).any()
    module.net.conv_out.weight.data.normal_()
    free, told = module(x, level), module(x, level, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(told[3], free[3], msg="the last class means that there is no label")
    assert not torch.allclose(told[:3], free[:3])
    assert not torch.allclose(module(x, level + 0.1), free)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ('RuntimeError("operator torchvision::nms does not exist")', "RuntimeError: operator torchvision::nms does not exist"),
        ('ImportError("libcudart.so.13: cannot open shared object file")', "ImportError: libcudart.so.13: cannot open"),
        ('ModuleNotFoundError("No module named requests", name="requests")', "No module named requests"),
        ('ValueError("numpy.dtype size changed")', "ValueError: numpy.dtype size changed"),
    ],
)
def test_diffusers_that_is_broken_is_said_in_its_own_words(tmp_path, monkeypatch, raised, told):
    """Its extra brings nothing new then: what is named is the library's own error."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "diffusers.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as refusal:
        NETWORKS.build("diffusers-unet").module((1, 8, 8))
    assert told in refusal.value.problem
    assert "sdezoo[diffusers]" not in str(refusal.value)
    assert torch.__version__ in refusal.value.remedy


def test_diffusers_that_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(PluginError, match=r"sdezoo\[diffusers\]"):
        NETWORKS.build("diffusers-unet").module((1, 8, 8))


@pytest.mark.parametrize("aware", [True, False])
def test_a_step_of_adam_changes_deep_networks_alike_if_depth_aware(aware: bool) -> None:
    """What the blocks add after two steps: the same within a factor 1.5 from 2 to 32 blocks; without, it grows with their number."""
    added = []
    for depth in (2, 32):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = NETWORKS.build(f"mlp:width=64,depth={depth},depth_aware={str(aware).lower()}").module((3,))
            torch.nn.init.normal_(net.leave.weight)
        optimizer, x = torch.optim.Adam(net.parameters(), 1e-3), torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
        level = torch.zeros(16)
        for _ in range(2):
            optimizer.zero_grad()
            net(x, level).square().mean().backward()
            optimizer.step()
        seen = []
        for block in net.blocks:
            block.register_forward_hook(lambda _, given, out, seen=seen: seen.append((out - given[0]).detach()))
        net(x, level)
        added.append(float(torch.stack(seen).sum(0).norm()))
    ratio = added[1] / added[0]
    assert 1 / 1.5 < ratio < 1.5 if aware else ratio > 5


def test_a_dense_layer_has_the_value_and_the_derivative_of_a_linear_one() -> None:
    """Whoever computes it, within the rounding of a sum of 64 terms."""
    rounding = {"rtol": 0, "atol": 64 * torch.finfo(torch.float32).eps}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, x, v = Dense(64, 32), torch.randn(50, 64), torch.randn(50, 64)
    exact = x.double() @ layer.weight.double().T + layer.bias.double()
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), exact, **rounding)
        torch.testing.assert_close(torch.func.jvp(layer, (x,), (v,))[1], v @ layer.weight.T, **rounding)
        torch.testing.assert_close(torch.func.vmap(layer)(x).double(), exact, **rounding)
        assert layer(x.double()[:0].float()).shape == (0, 32)
    slope = torch.autograd.grad(layer(x.requires_grad_()).sum(), x)[0]
    torch.testing.assert_close(slope, layer.weight.sum(0).expand(50, 64), **rounding)


def test_a_dense_layer_in_bfloat16_follows_its_weights() -> None:
    """As the linear layer of torch in bfloat16, where it differentiates and where not, whatever the weights were before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, x = Dense(64, 32), torch.randn(50, 64)
        other = Dense(64, 32).state_dict()
    as_float32 = {"rtol": 0.05, "atol": 0.05}  # for few rows, and on processors without bfloat16
    changes = (
        lambda: None,
        lambda: layer.weight.data.mul_(2),
        lambda: layer.load_state_dict(other),
        lambda: setattr(layer.bias, "data", torch.ones(32)),
    )
    for change in changes:
        change()
        with torch.autocast("cpu", torch.bfloat16):
            wanted = torch.nn.functional.linear(x, layer.weight, layer.bias).detach()
            assert wanted.dtype == torch.bfloat16
            torch.testing.assert_close(layer(x).detach(), wanted)
            with torch.inference_mode():
                found = layer(x)
        torch.testing.assert_close(found.bfloat16(), wanted, **({} if emulated(x.device) is None else as_float32))
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            few = layer(x[:1].bfloat16())
        torch.testing.assert_close(few.bfloat16(), wanted[:1], **as_float32)


def test_one_level_modulates_rows_as_many_equal_levels_do() -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net, x = NETWORKS.build("mlp:width=32").module((3,)), torch.randn(9, 3)
        for weight in net.parameters():
            weight.normal_(std=0.2)
        level = torch.tensor([0.3])
        torch.testing.assert_close(net(x, level.expand(9)), net(x, level.repeat(9)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_unet_compiled_in_bfloat16_has_the_gradients_of_the_one_that_is_not(no_pickle_is_read: list[str]) -> None:
    noise = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = NETWORKS.build("unet:dropout=0").module((1, 8, 8))
        for weight in net.parameters():  # no layer at zero: what follows it would have no gradient
            weight.add_(torch.randn(weight.shape, generator=noise), alpha=0.02)
    x, towards = torch.randn(2, 32, 1, 8, 8, generator=noise)
    level = torch.randn(32, generator=noise)

    def gradients(called):
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = called(x, level)
        (out.float() * towards).sum().backward()
        return {name: weight.grad.flatten() for name, weight in net.named_parameters()}

    plain, compiled = gradients(net), gradients(torch.compile(net))
    no_pickle_is_read.clear()  # the cache of torch.compile holds pickles of its own
    agreement = {name: float(nn.functional.cosine_similarity(plain[name], compiled[name], 0)) for name in plain}
    assert min(agreement.values()) > 0.97, min(agreement.items(), key=lambda each: each[1])


@pytest.mark.parametrize(("side", "expected"), [(4, [32, 64]), (8, [32, 64]), (28, [32, 64, 128]), (64, [32, 64, 128, 128])])
def test_a_unet_goes_down_to_where_it_attends(side, expected):
    module = NETWORKS.build("unet").module((1, side, side))
    assert [stage.blocks[0].norm.num_channels for stage in module.down] == expected
    assert [isinstance(stage.attentions[0], Attention) for stage in module.down][-1]
