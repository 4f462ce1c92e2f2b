"""Training: every composition that fits runs, every other is refused before data are read, and a run goes on as if never interrupted."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sdezoo import LOSSES, SAMPLERS, SDES
from sdezoo.errors import CompositionError, DataError, RunError, SdezooError, SupportError
from sdezoo.learning.output import OUTPUTS
from sdezoo.runs import checkpoint, planning
from sdezoo.runs.checkpoint import restore
from sdezoo.runs.config import TrainingConfig
from sdezoo.runs.generation import choose_sampler, generate
from sdezoo.runs.order import Order
from sdezoo.runs.training import train
from sdezoo.zoo.composition import defaults

SMALL = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": "wine"}
PAIRS = [(sde, loss, part.refuses(process) is None) for sde, process in defaults(SDES) for loss, part in defaults(LOSSES)]


def config(tmp_path: Path, **values: object) -> TrainingConfig:
    return TrainingConfig.build({**SMALL, "out": str(tmp_path / "run"), **values})


@pytest.mark.parametrize(("sde", "loss"), [(sde, loss) for sde, loss, fits in PAIRS if fits])
def test_what_fits_trains_and_samples(tmp_path: Path, sde: str, loss: str) -> None:
    train(config(tmp_path, sde=sde, loss=loss))
    trained = restore(tmp_path / "run")
    for name, part in defaults(SAMPLERS):
        if part.refuses(trained.model.sde):
            with pytest.raises(CompositionError, match=f"Fits '{sde}': .*Fits '{name}': --sde"):
                choose_sampler(trained, name)
            continue
        sampler = choose_sampler(trained, name)
        if not part.preserves_support:
            with pytest.raises(SupportError, match=r"left the support.*dale-langevin"):
                generate(trained, sampler, 3, steps=2)
            continue
        made = generate(trained, sampler, 3, steps=2)
        assert made.x.shape == (3, 13)
        assert made.x.isfinite().all()


@pytest.mark.parametrize(("sde", "loss"), [(sde, loss) for sde, loss, fits in PAIRS if not fits])
def test_what_does_not_fit_is_refused_before_data_are_read(tmp_path: Path, sde: str, loss: str) -> None:
    with pytest.raises(CompositionError, match=f"Fits '{sde}': .*Fits '{loss}': --sde"):
        train(config(tmp_path, sde=sde, loss=loss, data=str(tmp_path / "there-is-no-such-file.npz")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sde", SDES.names())
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_that_fits_trains_and_samples(tmp_path: Path, sde: str, output: str) -> None:
    if OUTPUTS[output].refuses(SDES.build(sde)):
        with pytest.raises(CompositionError, match=f"Fits '{sde}'"):
            train(config(tmp_path, sde=sde, output=output, data="there-is-no-such-file.npz"))
        return
    train(config(tmp_path, sde=sde, output=output))
    trained = restore(tmp_path / "run")
    assert trained.model.output_name == output
    assert generate(trained, choose_sampler(trained, None), 3, steps=2).x.isfinite().all()


@pytest.mark.parametrize(
    ("data", "net", "event"), [("digits", "unet:width=8", (1, 8, 8)), ("spirals", "mlp", (2,)), ("wine", "mlp", (13,))]
)
def test_the_run_folder_is_whole(tmp_path: Path, data: str, net: str, event: tuple[int, ...]) -> None:
    result = train(config(tmp_path, sde="ve", data=data, net=net, prior="white"))
    run = tmp_path / "run"
    assert result.checkpoint == run / "checkpoints" / "step-2"
    assert {p.name for p in run.iterdir()} == {"config.yaml", "env.json", "metrics.jsonl", "checkpoints", "samples"}
    parts = {f"{name}.safetensors" for name in ("model", "ema", "optimizer", "times")}
    assert {p.name for p in result.checkpoint.iterdir()} == {*parts, "state.json"}
    assert TrainingConfig.build(yaml.safe_load((run / "config.yaml").read_text())).sde == "ve"
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [2]
    trained = restore(run)
    assert trained.state.event == event
    assert trained.model.sde.sigma_max is not None, "what was left to the data is recorded"


@pytest.mark.parametrize("values", [{}, {"data": "digits", "net": "unet:width=8"}, {"times": "importance"}, {"optimizer": "egd-adam"}])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path, values: dict[str, str]) -> None:
    whole = config(tmp_path, out=str(tmp_path / "whole"), steps=6, checkpoint_every=3, lr=1e-2, **values)
    train(whole)
    cut = whole.model_copy(update={"out": str(tmp_path / "cut")})

    def interrupt(step: int, _loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, report=interrupt)
    assert checkpoint.newest(tmp_path / "cut") == tmp_path / "cut" / "checkpoints" / "step-3"
    train(cut, resume=True)
    for name in ("model", "ema", "optimizer", "times"):
        a, b = (load_file(tmp_path / run / "checkpoints" / "step-6" / f"{name}.safetensors") for run in ("whole", "cut"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_the_seed_fixes_the_weights(tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(out))
        train(config(tmp_path, out=str(tmp_path / out), seed=seed))
    a, b, c = (load_file(tmp_path / out / "checkpoints" / "step-2" / "model.safetensors") for out in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_a_checkpoint_of_another_process_is_refused(tmp_path: Path) -> None:
    train(config(tmp_path))
    for change in ({"sde": "gbm:sigma=0.8"}, {"net": "mlp:width=8"}, {"output": "v"}):
        with pytest.raises(RunError, match="is of"):
            train(config(tmp_path, steps=4, **change), resume=True)


def test_a_run_is_not_overwritten_unasked_and_a_foreign_folder_never(tmp_path: Path) -> None:
    train(config(tmp_path))
    with pytest.raises(RunError, match="--resume"):
        train(config(tmp_path))
    train(config(tmp_path, steps=3), overwrite=True)
    assert not (tmp_path / "run" / "checkpoints" / "step-2").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a run"):
        train(config(tmp_path, out=str(tmp_path / "thesis")), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_bad_data_leave_an_existing_run_alone(tmp_path: Path) -> None:
    train(config(tmp_path))
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    (tmp_path / "zero.csv").write_text("price,count\n1,2\n3,0\n4,5\n2,1\n")
    with pytest.raises(DataError, match=r"1 value is zero.*'count'"):
        train(config(tmp_path, data=str(tmp_path / "zero.csv")), overwrite=True)
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    train(config(tmp_path, data=str(tmp_path / "zero.csv"), shift="auto", batch_size=None), overwrite=True)
    assert restore(tmp_path / "run").map.shift.tolist()[0] == 0


def test_a_table_keeps_its_columns_and_its_units(tmp_path: Path) -> None:
    result = train(config(tmp_path, steps=60, batch_size=64))
    trained = restore(result.run)
    made = generate(trained, choose_sampler(trained, None), 64)
    assert trained.state.columns == result.data.columns
    assert (made.x > 0).all(), "positive data stay positive"
    ratio = made.x.median(0).values / result.data.train.median(0).values
    assert ((ratio > 0.2) & (ratio < 5)).all(), "in the units of the data"


def test_samples_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    train(config(tmp_path))
    trained = restore(tmp_path / "run")
    for name in ("dpmpp-2m", "euler-maruyama"):
        sampler = choose_sampler(trained, name)
        whole = generate(trained, sampler, 9, steps=4, batch_size=9).x
        torch.testing.assert_close(generate(trained, sampler, 9, steps=4, batch_size=2).x, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused_in_words(tmp_path: Path, name: str) -> None:
    result = train(config(tmp_path))
    file = result.checkpoint / name
    content = file.read_bytes()
    for k in range(0, len(content), max(len(content) // 7, 1)):
        file.write_bytes(content[:k])
        with pytest.raises(SdezooError):
            train(config(tmp_path, steps=4), resume=True)
    file.unlink()
    with pytest.raises(RunError, match="damaged"):
        train(config(tmp_path, steps=4), resume=True)


def test_a_diverging_training_stops_and_keeps_what_it_had(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--lr"):
        train(config(tmp_path, steps=60, lr=1e30))


@pytest.mark.parametrize(("rows", "batch"), [(10, 3), (5, 12), (7, 7)])
def test_every_epoch_sees_every_row_once(rows: int, batch: int) -> None:
    order = Order(rows, batch, seed=0)
    seen = torch.cat([order.rows(k) for k in range(rows)])
    for epoch in seen[: len(seen) // rows * rows].split(rows):
        assert sorted(epoch.tolist()) == list(range(rows))
    again = Order(rows, batch, seed=0)
    assert torch.equal(again.rows(rows - 1), order.rows(rows - 1)), "a step knows its rows without those before"


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    train(config(tmp_path, tensorboard=True))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert read.Scalars("loss")[0].value == pytest.approx(row["loss"])
    assert {f"levels/{k}" for k, level in enumerate(row["levels"]) if level is not None} <= set(read.Tags()["scalars"])


def test_tensorboard_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"sdezoo\[tensorboard\]"):
        train(config(tmp_path, tensorboard=True))
    assert list(tmp_path.iterdir()) == []
