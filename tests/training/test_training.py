"""Training: every composition that fits runs, every other is refused before data are read, and a run goes on as if never interrupted."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load, load_file

from sdezoo import LOSSES, SAMPLERS, SDES, Sampler
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, RunError, SupportError
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.learning.output import OUTPUTS
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import Trained, restore
from sdezoo.training import planning
from sdezoo.training.batches import BatchSampler
from sdezoo.training.config import TrainingConfig
from sdezoo.training.score_task import ScoreTask
from sdezoo.training.validation import ValidationLoss
from sdezoo.zoo.composition import defaults

SMALL = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": "wine"}


def few(trained: Trained, sampler: Sampler) -> torch.Tensor:
    """Three samples in two steps, or in as many as a process with stiff drift needs, where it says so."""
    try:
        return generate(trained, sampler, 3, steps=2).x
    except SupportError as error:
        if "more steps" not in error.remedy:
            raise
        return generate(trained, sampler, 3, steps=300).x


SCORED = {name: process for name, process in defaults(SDES) if ScoreTask().refuses(process) is None}
"""Processes of score learning; others have a task of their own."""
PAIRS = [(sde, loss, part.refuses(process) is None) for sde, process in SCORED.items() for loss, part in defaults(LOSSES)]


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows that every process can live on: positive, inside the unit box and the unit ball, with sum 1."""
    path = tmp_path_factory.mktemp("data") / "shares.npy"
    np.save(path, np.random.default_rng(0).dirichlet(np.full(13, 20), 90).astype(np.float32))
    return str(path)


def fitting(sde: str, shares: str) -> str:
    """The file of `shares`, or one of as many of its columns as the process takes, or of counts if it takes whole numbers."""
    process = SDES.build(sde)
    if process.support.is_discrete:
        np.save(counts := shares.replace(".npy", "-counts.npy"), (100 * np.load(shares)).round())
        return counts
    event = process.row_shape
    if event is None:
        return shares
    part = shares.replace(".npy", f"-{event[0]}.npy")
    np.save(part, np.load(shares)[:, : event[0]])
    return part


def config(tmp_path: Path, **values: object) -> TrainingConfig:
    return TrainingConfig.build({**SMALL, "out": str(tmp_path / "run"), **values})


@pytest.mark.parametrize(("sde", "loss"), [(sde, loss) for sde, loss, fits in PAIRS if fits])
def test_what_fits_trains_and_samples(tmp_path: Path, shares: str, sde: str, loss: str) -> None:
    train(config(tmp_path, sde=sde, loss=loss, data=fitting(sde, shares)))
    trained = restore(tmp_path / "run")
    for name, part in defaults(SAMPLERS):
        if part.refuses(trained.model.sde):
            with pytest.raises(CompositionError, match=f"Fits '{sde}': .*Fits '{name}': --sde"):
                choose_sampler(trained, name)
            continue
        sampler = choose_sampler(trained, name)
        try:
            made = generate(trained, sampler, 3, steps=2)
        except SupportError as left:
            found = not part.preserves_support and re.search(r"left the support.*dale-langevin", str(left))
            assert found, left  # noqa: PT017
            continue
        assert made.x.shape == (3, *(trained.model.sde.row_shape or (13,)))
        assert made.x.isfinite().all()


@pytest.mark.parametrize(("sde", "loss"), [(sde, loss) for sde, loss, fits in PAIRS if not fits])
def test_what_does_not_fit_is_refused_before_data_are_read(tmp_path: Path, sde: str, loss: str) -> None:
    with pytest.raises(CompositionError, match=f"Fits '{sde}': .*Fits '{loss}': --sde"):
        train(config(tmp_path, sde=sde, loss=loss, data=str(tmp_path / "there-is-no-such-file.npz")))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_shape_are_refused(tmp_path: Path, shares: str) -> None:
    with pytest.raises(DataError, match=r"'heston' takes rows of shape \(2,\), not \(13,\)"):
        train(config(tmp_path, sde="heston", loss="sliced-sm", data=shares))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sde", SCORED)
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_that_fits_trains_and_samples(tmp_path: Path, shares: str, sde: str, output: str) -> None:
    if OUTPUTS[output].refuses(SDES.build(sde)):
        with pytest.raises(CompositionError, match=f"Fits '{sde}'"):
            train(config(tmp_path, sde=sde, output=output, data="there-is-no-such-file.npz"))
        return
    train(config(tmp_path, sde=sde, output=output, data=fitting(sde, shares)))
    trained = restore(tmp_path / "run")
    assert trained.model.output_name == output
    assert few(trained, choose_sampler(trained, None)).isfinite().all()


@pytest.mark.parametrize(
    ("data", "net", "event"), [("digits", "unet:width=8", (1, 8, 8)), ("spirals", "mlp", (2,)), ("wine", "mlp", (13,))]
)
def test_the_run_folder_is_whole(tmp_path: Path, data: str, net: str, event: tuple[int, ...]) -> None:
    result = train(config(tmp_path, sde="ve", data=data, net=net, prior="white"))
    run = tmp_path / "run"
    assert result.checkpoint == run / "checkpoints" / "step-2"
    assert {p.name for p in run.iterdir()} == {".lock", "config.yaml", "env.json", "metrics.jsonl", "checkpoints", "samples"}
    parts = {f"{name}.safetensors" for name in ("model", "ema", "optimizer", "times")}
    assert {p.name for p in result.checkpoint.iterdir()} == {*parts, "state.json", "SHA256SUMS"}
    assert TrainingConfig.build(yaml.safe_load((run / "config.yaml").read_text())).sde == "ve"
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [2]
    trained = restore(run)
    assert trained.state.event == event
    assert trained.model.sde.sigma_max is not None, "what was left to the data is recorded"


@pytest.mark.parametrize(
    "values",
    [{}, {"data": "digits", "net": "unet:width=8"}, {"noise_levels": "importance"}, {"optimizer": "egd-adam"}],
)
def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path, values: dict[str, str]) -> None:
    whole = config(tmp_path, out=str(tmp_path / "whole"), steps=6, checkpoint_every=3, lr=1e-2, **values)
    train(whole)
    cut = whole.model_copy(update={"out": str(tmp_path / "cut")})

    def interrupt(step: int, _steps: int, _loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, progress=interrupt)
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


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    train(config(tmp_path))
    for change in ({"sde": "gbm:sigma=0.8"}, {"net": "mlp:width=8"}, {"output": "v"}, {"seed": 1}, {"lr": 0.1}, {"batch_size": 9}):
        ((key, value),) = change.items()
        with pytest.raises(RunError, match=f"The run was trained with {key}=.*, not {value}"):
            train(config(tmp_path, steps=4, **change), resume=True)
    with pytest.raises(RunError, match=r"has batch=8, not 128"):
        train(config(tmp_path, steps=4, batch_size=None), resume=True)
    with pytest.raises(RunError, match=r"no run in .*Omit --resume"):
        train(config(tmp_path, out=str(tmp_path / "nowhere")), resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_other_data_are_not_gone_on_with(tmp_path: Path) -> None:
    data = tmp_path / "prices.csv"
    data.write_text("a,b\n" + "".join(f"{k * k},{k * k + 1}\n" for k in range(1, 40)))
    train(config(tmp_path, data=str(data)))
    data.write_text("a,b\n" + "".join(f"{k * k},{9 * k * k}\n" for k in range(1, 40)))
    with pytest.raises(RunError, match=r"has sde=.*settings and data of the run"):
        train(config(tmp_path, data=str(data), steps=4), resume=True)


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
        train(config(tmp_path, sde="gbm", data=str(tmp_path / "zero.csv")), overwrite=True)
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    train(config(tmp_path, sde="gbm", data=str(tmp_path / "zero.csv"), shift="auto", batch_size=None), overwrite=True)
    assert restore(tmp_path / "run").encoding.codecs[-1].shift.tolist()[0] == 0


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


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "state.json", "SHA256SUMS"])
def test_training_goes_on_from_the_newest_whole_checkpoint_and_says_so(tmp_path: Path, name: str) -> None:
    whole = load((train(config(tmp_path, steps=6, checkpoint_every=2)).checkpoint / "ema.safetensors").read_bytes())
    for broken in ("cut", "flipped", "gone"):
        file = checkpoint.folder_of(tmp_path / "run", 6) / name
        match broken:
            case "cut":
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            case "flipped":
                flip(file)
            case "gone":
                file.unlink()
        with pytest.warns(UserWarning, match="step-6' is damaged .*, so training resumes from step 4"):
            train(config(tmp_path, steps=6), resume=True)
        again = load_file(checkpoint.folder_of(tmp_path / "run", 6) / "ema.safetensors")
        assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_a_damaged_checkpoint_does_not_stay_the_newest(tmp_path: Path) -> None:
    run = train(config(tmp_path, steps=6, checkpoint_every=2)).run
    flip(checkpoint.folder_of(run, 6) / "ema.safetensors")
    train(config(tmp_path, steps=5), resume=True, notify=lambda _: None)
    assert list(checkpoint.steps(run)) == [2, 4, 5]
    assert restore(run).state.step == 5


def test_samples_are_of_the_checkpoint_that_was_asked_for_or_refused(tmp_path: Path) -> None:
    run = train(config(tmp_path, steps=6, checkpoint_every=2)).run
    flip(checkpoint.folder_of(run, 6) / "ema.safetensors")
    with pytest.raises(RunError, match=r"step-6' is damaged \('ema.safetensors' is not what was saved\).*--checkpoint 4"):
        restore(run)
    assert restore(run, "4").state.step == 4
    with pytest.raises(RunError, match=r"no checkpoint '3'. Give newest, best, or a step: 2, 4, 6"):
        restore(run, "3")
    for step in (2, 4, 6):
        flip(checkpoint.folder_of(run, step) / "state.json")
    with pytest.raises(RunError, match=r"damaged .*Train again"):
        restore(run)
    with pytest.raises(RunError, match=r"All checkpoints of .*--overwrite"):
        train(config(tmp_path, steps=8), resume=True)


def test_a_checkpoint_of_the_format_before_is_gone_on_with(tmp_path: Path) -> None:
    whole = load_file(train(config(tmp_path, steps=4)).checkpoint / "ema.safetensors")
    folder = train(config(tmp_path, steps=4, checkpoint_every=2), overwrite=True).run / "checkpoints" / "step-2"
    shutil.rmtree(folder.with_name("step-4"))
    state = json.loads((folder / "state.json").read_text())
    for later in ("seed", "batch", "lr", "validation_loss", "computing"):
        del state[later]
    (folder / "state.json").write_text(json.dumps(state | {"format": 2}))
    (folder / "SHA256SUMS").unlink()
    old_names(tmp_path / "run" / "config.yaml")
    again = load_file(train(config(tmp_path, steps=4), resume=True).checkpoint / "ema.safetensors")
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    (folder / "state.json").write_text(json.dumps(state | {"format": 5}))
    with pytest.raises(RunError, match="has format 5; this version reads 2, 3, 4"):
        restore(tmp_path / "run", "2")


def old_names(path: Path) -> None:
    """Rewrites the `config.yaml` of a run with the names that format 3 had."""
    text = path.read_text()
    names = {"noise_levels": "times", "label_dropout": "drop", "warmup_steps": "warm_up", "grad_clip_norm": "clip"}
    for new, old in (names | {"ema_half_life_images": "ema"}).items():
        assert f"\n{new}: " in text
        text = text.replace(f"\n{new}: ", f"\n{old}: ")
    path.write_text(text)


def test_a_run_with_the_names_of_format_3_samples_and_resumes(tmp_path: Path) -> None:
    settings = {"loss": "dsm:weighting=paper", "checkpoint_every": 2, "shift": "none"}  # with no codec but the affine one
    whole = load_file(train(config(tmp_path, steps=4, **settings)).checkpoint / "ema.safetensors")
    folder = train(config(tmp_path, steps=4, **settings), overwrite=True).run / "checkpoints" / "step-2"
    shutil.rmtree(folder.with_name("step-4"))
    state = json.loads((folder / "state.json").read_text())
    state["held_out"] = state.pop("validation_loss")
    [codec] = state["encoding"]["codecs"]
    assert codec.pop("codec") == "affine"
    state |= {"map": codec, "types": state.pop("encoding")["types"]}
    content = json.dumps(state | {"format": 3}).encode()
    (folder / "state.json").write_bytes(content)
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    sums = [f"{hashlib.sha256(content).hexdigest()}  state.json" if line.endswith("  state.json") else line for line in sums]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    old_names(tmp_path / "run" / "config.yaml")
    written = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(written.replace("weighting=paper", "weighting=authors"))
    assert restore(tmp_path / "run").state.validation_loss == state["held_out"]
    again = load_file(train(config(tmp_path, steps=4, **settings), resume=True).checkpoint / "ema.safetensors")
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_the_newest_and_the_best_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([5.0, 1.0, None, 4.0, 1.0, 3.0, 0.5])
    monkeypatch.setattr(ValidationLoss, "measure", lambda *_: next(losses))
    run = train(config(tmp_path, steps=5, checkpoint_every=1, keep=1)).run
    assert list(checkpoint.steps(run)) == [2, 5], "of two that are as good, the first"
    assert restore(run, "best").state.step == 2
    train(config(tmp_path, steps=7, checkpoint_every=1, keep=3), resume=True)
    assert list(checkpoint.steps(run)) == [5, 6, 7]
    assert restore(run, "best").state.step == 7
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation_loss"] for row in rows] == [5.0, 1.0, None, 4.0, 1.0, 3.0, 0.5]


def test_without_held_out_rows_there_is_no_best(tmp_path: Path) -> None:
    x = torch.rand(20, 2) + 1
    run = train(config(tmp_path, data="memory"), data=Data(x, x[:0], "points")).run
    assert json.loads((run / "metrics.jsonl").read_text())["validation_loss"] is None
    with pytest.raises(RunError, match=r"No checkpoint .* has a validation loss"):
        restore(run, "best")


@pytest.mark.parametrize("cut", [0, 20])
def test_what_is_written_down_is_that_of_one_training(tmp_path: Path, cut: int) -> None:
    """After a kill between a line and its checkpoint, or inside a line: no line twice, no half line."""
    whole = config(tmp_path, steps=6, checkpoint_every=2)
    run = train(whole).run
    rows = (run / "metrics.jsonl").read_text()
    shutil.rmtree(checkpoint.folder_of(run, 6))
    (run / "metrics.jsonl").write_text(rows[: len(rows) - cut])
    train(whole, resume=True)
    found = [[json.loads(line) for line in text.splitlines()] for text in (rows, (run / "metrics.jsonl").read_text())]
    for row in (row for part in found for row in part):
        del row["seconds"], row["images_per_second"]
    assert found[0] == found[1]


def test_a_run_that_reached_no_checkpoint_starts_again(tmp_path: Path) -> None:
    run = train(config(tmp_path)).run
    whole = load_file(run / "checkpoints" / "step-2" / "model.safetensors")
    shutil.rmtree(run / "checkpoints")
    with pytest.warns(UserWarning, match="no checkpoint, so it starts from the beginning"):
        again = train(config(tmp_path), resume=True)
    assert all(torch.equal(value, whole[key]) for key, value in load_file(again.checkpoint / "model.safetensors").items())


def test_what_computes_may_change_and_is_said(tmp_path: Path) -> None:
    run = train(config(tmp_path)).run
    torch.set_num_threads(2)
    try:
        with pytest.warns(
            UserWarning, match=r"with precision=float32 \(now bf16\), accumulate=1 \(now 2\), threads=1 \(now 2\): .* rounding"
        ):
            train(config(tmp_path, steps=4, precision="bf16", accumulate=2), resume=True)
    finally:
        torch.set_num_threads(1)
    assert TrainingConfig.read(run / "config.yaml")["steps"] == 4, "the settings are those of now"


def test_a_small_data_set_is_gone_on_with(tmp_path: Path) -> None:
    """Its batch, which was left open, is larger than it."""
    train(config(tmp_path, batch_size=None))
    settings = TrainingConfig.read(tmp_path / "run" / "config.yaml")
    train(TrainingConfig.build({**settings, "steps": 3}), resume=True)


def test_deterministic_algorithms_are_asked_for_and_recorded(tmp_path: Path) -> None:
    asked = []
    run = train(config(tmp_path, deterministic=True), progress=lambda *_: asked.append(torch.are_deterministic_algorithms_enabled())).run
    assert asked == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert TrainingConfig.read(run / "config.yaml")["deterministic"]
    assert restore(run).state.computing["deterministic"]


def test_what_has_no_deterministic_algorithm_is_named(tmp_path: Path) -> None:
    def scatter(*_: object) -> None:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))

    with pytest.raises(RunError, match=r"deterministic implementation of 'put_'.*--deterministic"):
        train(config(tmp_path, deterministic=True), progress=scatter)


def test_a_diverging_training_stops_and_keeps_what_it_had(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--lr"):
        train(config(tmp_path, steps=60, lr=1e30))


@pytest.mark.parametrize(("rows", "batch"), [(10, 3), (5, 12), (7, 7)])
def test_every_epoch_sees_every_row_once(rows: int, batch: int) -> None:
    order = BatchSampler(rows, batch, seed=0)
    seen = torch.cat([order.rows(k) for k in range(rows)])
    for epoch in seen[: len(seen) // rows * rows].split(rows):
        assert sorted(epoch.tolist()) == list(range(rows))
    again = BatchSampler(rows, batch, seed=0)
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
