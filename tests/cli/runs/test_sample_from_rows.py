"""`sdezoo sample --from FILE`: sample i starts at row i of the file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdezoo.runs.train import train
from sdezoo.store.shards import Shards
from sdezoo.training.config import TrainingConfig

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = str(tmp_path_factory.mktemp("wine") / "run")
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}
    return train(TrainingConfig.build({**small, "data": "wine", "sde": "gbm", "out": out})).run


@pytest.fixture
def sample(run: Path, terminal: Terminal) -> Terminal:
    return lambda *arguments: terminal("sample", run, "--steps", 4, *arguments)


def drawn(sample: Terminal, out: str, *arguments: object) -> np.ndarray:
    code, _, err = sample("--out", out, "--quiet", *arguments)
    assert code == 0, err
    return np.load(out)


def test_as_many_as_there_are_rows_each_near_its_own(sample: Terminal) -> None:
    rows = drawn(sample, "rows.npy", "-n", 9)
    code, out, err = sample("--from", "rows.npy", "--from-time", 0.002, "--out", "near.npy", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 9
    assert json.loads(out)["from"] == "rows.npy"
    near = np.load("near.npy")
    spread = rows.std(0)
    assert np.abs((near - rows) / spread).mean() < 0.1
    assert np.abs((near - rows[::-1]) / spread).mean() > 0.5
    far = drawn(sample, "far.npy", "--from", "rows.npy", "--seed", 1)
    assert np.abs((far - rows) / spread).mean() > 0.5


def test_a_sample_depends_on_its_own_row_alone(sample: Terminal) -> None:
    rows = drawn(sample, "rows.npy", "-n", 9)
    ordinary = ("--from", "rows.npy", "--from-time", 0.3, "--batch-size", 4)
    whole = drawn(sample, "all.npy", *ordinary)
    np.testing.assert_allclose(drawn(sample, "few.npy", *ordinary, "--seeds", "7,2-3"), whole[[7, 2, 3]], rtol=1e-4)
    rows[0] *= 1.5
    np.save("other.npy", rows)
    other = drawn(sample, "other-samples.npy", "--from", "other.npy", "--from-time", 0.3, "--batch-size", 4)
    assert np.array_equal(other[4:], whole[4:])
    assert not np.array_equal(other[0], whole[0])


def test_tables_are_read_by_their_columns(sample: Terminal) -> None:
    drawn(sample, "rows.npy", "-n", 5)
    assert sample("-n", 5, "--out", "rows.csv", "--quiet")[0] == 0
    from_array = drawn(sample, "a.npy", "--from", "rows.npy", "--from-time", 0.3)
    np.testing.assert_allclose(drawn(sample, "b.npy", "--from", "rows.csv", "--from-time", 0.3), from_array, rtol=1e-4)


def test_a_trajectory_begins_with_the_noised_rows(sample: Terminal) -> None:
    drawn(sample, "rows.npy", "-n", 5)
    drawn(sample, "s.npy", "--from", "rows.npy", "--from-time", 0.3, "--trajectory", "way.png")
    assert Path("way.png").stat().st_size > 0


def test_what_was_begun_from_other_rows_is_not_resumed(sample: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(sample, "rows.npy", "-n", 20)
    put = Shards.put

    def stopped(self: Shards, at: int, *arguments: object) -> None:
        if at == 1:
            raise KeyboardInterrupt
        put(self, at, *arguments)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(Shards, "put", stopped)
        assert sample("--from", "rows.npy", "--batch-size", 2, "--out", "s.npy", "--quiet")[0] == 130
    np.save("rows.npy", 1.1 * rows)
    code, _, err = sample("--from", "rows.npy", "--batch-size", 2, "--out", "s.npy", "--quiet")
    assert code == 2
    assert "s.npy.parts" in err
    np.save("rows.npy", rows)
    resumed = drawn(sample, "s.npy", "--from", "rows.npy", "--batch-size", 2)
    assert np.array_equal(resumed, drawn(sample, "t.npy", "--from", "rows.npy", "--batch-size", 2))


def test_what_cannot_be_started_from_is_refused_in_a_sentence(sample: Terminal) -> None:
    rows = drawn(sample, "rows.npy", "-n", 4)
    np.save("narrow.npy", rows[:, :3])
    np.save("negative.npy", -rows)
    np.save("none.npy", rows[:0])
    Path("rows.txt").write_text("1")
    for arguments, words in (
        (("--from", "rows.npy", "-n", 5), "Sample 4 has no row to start from: there are 4 rows"),
        (("--from", "rows.npy", "--seeds", "3-9"), "Sample 9 has no row to start from"),
        (("--from", "narrow.npy"), "have shape (4, 3)"),
        (("--from", "negative.npy"), "lie outside the positive numbers"),
        (("--from", "none.npy"), "holds no rows"),
        (("--from", "nowhere.npy"), "There is no file"),
        (("--from", "rows.txt"), "No installed format can read samples from"),
        (("--from", "rows.npy", "--from-time", 2), "no state to start from at t = 2"),
        (("--from-time", 0.3), "There are no rows to start from"),
    ):
        code, out, err = sample(*arguments, "--out", "x.npy")
        assert (code, out) == (2, ""), arguments
        assert words in err
        assert not Path("x.npy").exists()
        assert not Path("x.npy.parts").exists()
