"""An export gives what torch gives: the denoiser, and the samples of a script that has no torch."""

import csv
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.errors import CompositionError, RunError
from sdezoo.generation.beginnings import Beginnings
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, generate
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import NETWORKS, load_file

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from sdezoo.exchange.graphs import FILES, export_onnx

NETWORK = '''
from dataclasses import dataclass
import torch
from torch import nn
from sdezoo import Network

class Curved(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x, level, condition=None):
        return FORMULA

@dataclass(frozen=True)
class CurvedNetwork(Network):
    """A network that ONNX cannot express."""

    def module(self, event, classes=None):
        return Curved(event[0])
'''


def trained(folder: Path, **settings: object) -> Path:
    base = {"net": "mlp:width=16,depth=1", "steps": 200, "batch_size": 32, "device": "cpu", "out": str(folder / "run")}
    return train(TrainingConfig.build(base | settings), notify=lambda note: None).run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    rng = np.random.default_rng(0)
    lines = [f"{a:.5f},{b:.5f},{str(rng.choice(['red', 'blue', 'x, y']))!r},{rng.integers(3, 40)}" for a, b in rng.lognormal(size=(300, 2))]
    (folder / "rows.csv").write_text("price,area,kind,count\n" + "\n".join(lines).replace("'", '"'), encoding="utf-8")
    return trained(folder, data=str(folder / "rows.csv"))


def test_the_script_samples_as_torch_does_and_without_torch(table: Path, tmp_path: Path) -> None:
    made = export_onnx(table, tmp_path / "out", steps=15, n=40, seed=3)
    assert made.error <= 1e-5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "torch.py").write_text("raise ImportError('no torch here')")
    path = os.pathsep.join(filter(None, [str(tmp_path / "none"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    script = str(tmp_path / "out" / "sample.py")
    out = subprocess.run([sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    head, *rows = csv.reader(io.StringIO(out))
    assert head == ["price", "area", "kind", "count"]
    run = restore(table)
    expected = generate(run, choose_sampler(run, "dpmpp-2m"), 40, steps=15, seed=3).x.double().numpy()
    words = list(run.encoding.types[2].values)
    found = np.array([[words.index(cell) if i == 2 else float(cell) for i, cell in enumerate(row)] for row in rows])
    np.testing.assert_allclose(found / expected.std(0), expected / expected.std(0), atol=1e-4)
    new = subprocess.run([sys.executable, script, "500", "1"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    prices = np.array([float(row[0]) for row in list(csv.reader(io.StringIO(new)))[1:]])
    many = generate(run, choose_sampler(run, "dpmpp-2m"), 2000, steps=15).x[:, 0].numpy()
    assert len(prices) == 500
    assert abs(np.log(prices).mean() - np.log(many).mean()) < 5 * np.log(many).std() / 500**0.5
    assert np.log(prices).std() == pytest.approx(np.log(many).std(), rel=0.2)


def test_a_unet_is_written_with_its_classes(tmp_path: Path) -> None:
    run = trained(tmp_path, data="digits", sde="gbm", net="unet:width=8,multipliers=(1,2)", steps=2, batch_size=4, condition="labels")
    assert export_onnx(run, tmp_path / "out", n=4, steps=3).error <= 1e-5
    decoder = importlib.import_module("onnxruntime").InferenceSession(tmp_path / "out" / "decoder.onnx", providers=["CPUExecutionProvider"])
    (pixels,) = decoder.run(None, {"z": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)})
    assert np.isin(pixels, np.arange(17, dtype=np.float32) / 16).all()


def test_the_script_draws_classes_as_torch_does(tmp_path: Path) -> None:
    run = trained(tmp_path, data="wine", sde="gbm", condition="labels", net="mlp:width=16,depth=1", steps=60, lr=0.01)
    export_onnx(run, tmp_path / "out", n=9, steps=8, seed=2)

    def script(*given: str) -> list[list[str]]:
        command = [sys.executable, str(tmp_path / "out" / "sample.py"), *given]
        return list(csv.reader(io.StringIO(subprocess.run(command, capture_output=True, text=True, check=True).stdout)))[1:]

    model = restore(run)
    sampler = choose_sampler(model, "dpmpp-2m")
    draws = [Draw(model, sampler, SampleIndices.first(9), steps=8, seed=2, label=label) for label in ("each", 2)]
    each, one = (draw.together().x.numpy() for draw in draws)
    for expected, rows in ((each, script()), (one, script("9", "-", "class_2"))):
        np.testing.assert_allclose(np.array(rows)[:, :-1].astype(float) / expected.std(0), expected / expected.std(0), atol=1e-4)
    assert [row[-1] for row in script()] == ["class_0", "class_1", "class_2"] * 3
    assert np.abs(each - one)[0].max() > 1e-2
    with pytest.raises(subprocess.CalledProcessError):
        script("9", "-", "rosé")


@pytest.mark.parametrize(("form", "net"), [("growth", "unet1d:width=8,multipliers=(1,2)"), ("real", "transformer:width=8,depth=1,heads=2")])
def test_the_script_writes_series_and_continues_them_as_torch_does(tmp_path: Path, form: str, net: str) -> None:
    walk = np.exp(np.random.default_rng(0).normal(size=(200, 2)).cumsum(0) / 10)
    (tmp_path / "prices.csv").write_text("a,b\n" + "\n".join(f"{a:.5f},{b:.5f}" for a, b in walk))
    run = trained(tmp_path, data=f"series:path={tmp_path}/prices.csv,window=6,form={form}", net=net, steps=20, lr=0.03)
    made = export_onnx(run, tmp_path / "out", n=4)
    assert (made.steps, made.error <= 1e-5) == (50, True)

    def script(*given: str) -> tuple[list[str], list[list[str]]]:
        command = [sys.executable, str(tmp_path / "out" / "sample.py"), *given]
        head, *rows = csv.reader(io.StringIO(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        return head, rows

    head, rows = script()
    assert (head, [row[:2] for row in rows[5:8]]) == (["series", "step", "a", "b"], [["0", "5"], ["1", "0"], ["1", "1"]])
    model = restore(run)
    sampler = choose_sampler(model, "dpmpp-2m")
    whole = generate(model, sampler, 4, steps=50).x.double().numpy()
    begun = tmp_path / "begun.csv"
    windows = np.stack([walk[20:23], walk[40:43]]).round(4).astype(np.float32)
    lines = [f"{i},{k},{b},{a}" for i, one in enumerate(windows) for k, (a, b) in enumerate(one)]
    begun.write_text("series,step,b,a\n" + "\n".join(lines))
    draw = Draw(model, sampler, SampleIndices.first(4), steps=50, begun=Beginnings.of(torch.from_numpy(windows), 3, model))
    continued = draw.together().x.double().numpy()
    for expected, found in ((whole, rows), (continued, script("4", "-", str(begun))[1])):
        values = np.array(found)[:, 2:].astype(float).reshape(expected.shape)
        np.testing.assert_allclose(values / expected.std(), expected / expected.std(), atol=1e-4)
    np.testing.assert_allclose(continued[[0, 1, 2, 3], :3], windows[[0, 1, 0, 1]])
    assert np.abs(continued[0] - continued[2])[3:].max() > 1e-2  # other noise
    for wrong in ("a,b\n1,2\n" * 2, "a\n1\n", "a,b\n", "a,b\n" + "1,2\n" * 6, "a,b\nnan,1\n", "step,a,b\n1,1,1\n0,1,1\n", "\0"):
        begun.write_text(wrong)
        command = [sys.executable, str(tmp_path / "out" / "sample.py"), "1", "0", str(begun)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr, "no series to continue" in done.stderr) == (1, False, True), wrong


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("torch.special.i1e(self.inner(x))", r"cannot be written as ONNX: it has no operation '[\w.]*i1e"),
        ("len(x) * self.inner(x)", "was written as ONNX, but does not run: .*invalid dimensions"),
    ],
)
def test_what_onnx_cannot_express_is_named(tmp_path: Path, formula: str, reason: str) -> None:
    (tmp_path / "curved.py").write_text(NETWORK.replace("FORMULA", formula))
    (name,) = load_file(tmp_path / "curved.py")
    try:
        run = trained(tmp_path, data="spirals", sde="vp", net=name, steps=2)
        with pytest.raises(RunError, match=reason):
            export_onnx(run, tmp_path / "out", n=4, steps=3)
    finally:
        NETWORKS.remove(name)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused_before_anything_is_written(table: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(RunError, match="not empty"):
        export_onnx(table, tmp_path / "full")
    with pytest.raises(RunError, match="steps=0"):
        export_onnx(table, tmp_path / "out", steps=0)
    with pytest.raises(RunError, match="does not exist"):
        export_onnx(tmp_path / "nowhere", tmp_path / "out")
    positive = tmp_path / "x.npy"
    np.save(positive, torch.rand(40, 2).numpy() + 0.1)
    other = trained(tmp_path, data=str(positive), sde="cir", steps=2)
    with pytest.raises(CompositionError, match="'cir' is not affine"):
        export_onnx(other, tmp_path / "out")
    (tmp_path / "ab" / "rounds" / "1-backward").mkdir(parents=True)
    with pytest.raises(CompositionError, match="is a bridge"):
        export_onnx(tmp_path / "ab", tmp_path / "out")
    monkeypatch.setattr("sdezoo.exchange.graphs.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"sdezoo\[onnx\]"):
        export_onnx(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()
