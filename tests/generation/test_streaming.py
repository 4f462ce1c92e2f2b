"""A large drawing is the small one: whatever stops it, however many processes share it, and in memory that does not grow."""

import copy
import errno
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdezoo.errors import RunError, SupportError
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, generate
from sdezoo.generation.sharing import Share
from sdezoo.generation.streaming import stream
from sdezoo.runs.train import train
from sdezoo.store import shards as module
from sdezoo.store.restoring import Trained, restore
from sdezoo.store.shards import Shards
from sdezoo.training.config import TrainingConfig

N, BATCH = 50, 2  # four shards, the last of them and its last batch not full


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    values = {"net": "mlp:width=16,depth=1", "steps": 2, "data": "wine", "batch_size": 8}
    return restore(train(TrainingConfig.build({**values, "out": str(tmp_path_factory.mktemp("run") / "run")})).run)


def draw(trained: Trained, n: int = N, sampler: str | None = None, **values: int) -> Draw:
    return Draw(trained, choose_sampler(trained, sampler), SampleIndices.first(n), **{"steps": 3, "batch_size": BATCH, **values})


class Stop:
    """Stops a drawing when so many samples are done."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self, done: float, _: int) -> None:
        if done >= self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ending", [".npz", ".npy", ".csv", ".parquet", ".png"])
def test_many_are_written_as_a_few_are(trained: Trained, tmp_path: Path, ending: str) -> None:
    made = generate(trained, draw(trained).sampler, N, steps=3, batch_size=BATCH)
    written = stream(draw(trained), tmp_path / f"many{ending}")
    assert written is not None
    assert (written.n, written.kept, written.values) == (N, 0, made.x.numel())
    assert (written.outside, written.evaluations) == (made.outside, made.evaluations)
    assert [file.name for file in tmp_path.iterdir()] == [f"many{ending}"]
    stream(draw(trained, batch_size=N), tmp_path / f"few{ending}")
    if ending == ".npy":
        assert np.array_equal(np.load(tmp_path / "many.npy"), made.x.numpy())
        assert (tmp_path / "many.npy").read_bytes()[:128] == (tmp_path / "few.npy").read_bytes()[:128]
    if ending == ".npz":
        assert np.array_equal(np.load(tmp_path / "many.npz")["x"], made.x.numpy())


@pytest.mark.parametrize("at", [17, 34, 50])
def test_an_interrupted_drawing_goes_on(trained: Trained, tmp_path: Path, at: int) -> None:
    stream(draw(trained), tmp_path / "whole.npz")
    out = tmp_path / "out.npz"
    with pytest.raises(KeyboardInterrupt, match=rf"{(at - 1) // 16 * 16} of 50 samples are kept in .*out\.npz\.parts.*same command"):
        stream(draw(trained), out, progress=Stop(at))
    assert not out.exists()
    written = stream(draw(trained), out)
    assert written is not None
    assert written.kept == (at - 1) // 16 * 16
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not Shards.folder_of(out).exists()


def test_it_goes_on_in_other_batches_and_draws_a_damaged_shard_again(trained: Trained, tmp_path: Path) -> None:
    stream(draw(trained), tmp_path / "whole.npy")
    out = tmp_path / "out.npy"
    with pytest.raises(KeyboardInterrupt):
        stream(draw(trained), out, progress=Stop(40))
    file = Shards.folder_of(out) / "000000.shard"
    file.write_bytes(file.read_bytes()[:-8])
    stream(draw(trained, batch_size=7), out)
    torch.testing.assert_close(torch.from_numpy(np.load(out)), torch.from_numpy(np.load(tmp_path / "whole.npy")))


def test_what_another_command_began_is_refused(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    with pytest.raises(KeyboardInterrupt):
        stream(draw(trained), out, progress=Stop(20))
    with torch.no_grad():
        other = copy.deepcopy(trained)
        next(other.model.net.parameters()).add_(1)
    for changed, says in (
        (draw(trained, seed=1), "seed=0 and not 1"),
        (draw(trained, steps=4), "steps=3 and not 4"),
        (draw(trained, n=60), "seeds=0-49 and not 0-59"),
        (draw(trained, sampler="ddim"), "sampler="),
        (draw(other), "model="),
    ):
        with pytest.raises(RunError, match=f"another command began.*{says}.*--overwrite"):
            stream(changed, out)
    with pytest.raises(RunError, match="precision=float32 and not bf16"):
        stream(draw(trained), out, precision="bf16")
    assert Shards.folder_of(out).exists()
    written = stream(draw(trained, seed=1), out, overwrite=True)
    assert written is not None
    assert written.kept == 0


def test_a_folder_of_ones_own_is_never_removed(trained: Trained, tmp_path: Path) -> None:
    mine = tmp_path / "out.npz.parts" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"does not hold shards.*another --out"):
            stream(draw(trained), tmp_path / "out.npz", overwrite=overwrite)
    assert mine.read_text() == "mine"


def test_a_full_disk_keeps_what_is_whole(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, out = module.put_rows, tmp_path / "out.npy"

    def full(*arguments: object) -> None:
        if (Shards.folder_of(out) / "000001.shard").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "put_rows", full)
    with pytest.raises(RunError, match=r"000002\.shard' cannot be written \(No space left on device\).*Make room.*repeat the command"):
        stream(draw(trained), out)
    assert sorted(file.name for file in Shards.folder_of(out).iterdir()) == ["000000.shard", "000001.shard", "manifest.json"]
    monkeypatch.undo()
    written = stream(draw(trained), out)
    assert written is not None
    assert written.kept == 32


def test_what_fails_at_once_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(SupportError, match="dale-langevin"):
        stream(draw(trained, sampler="multiplicative", steps=1), tmp_path / "out.npz")
    assert not any(tmp_path.iterdir())


@dataclass(frozen=True)
class Thread(Share):
    """A process, as far as its share goes."""

    barrier: threading.Barrier = threading.Barrier(1)  # noqa: RUF009

    def wait(self) -> None:
        self.barrier.wait(60)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_processes_share_the_work_with_the_same_result(trained: Trained, tmp_path: Path, count: int) -> None:
    stream(draw(trained), tmp_path / "alone.npz")
    barrier = threading.Barrier(count)
    written = {}

    def work(index: int) -> None:
        mine = replace(trained, model=copy.deepcopy(trained.model))
        written[index] = stream(draw(mine), tmp_path / "shared.npz", share=Thread(index, count, index, barrier))

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    assert [index for index, made in written.items() if made is not None] == [0]
    assert (tmp_path / "shared.npz").read_bytes() == (tmp_path / "alone.npz").read_bytes()


def test_a_plain_command_is_alone() -> None:
    share = Share.join()
    assert (share.first, share.count) == (True, 1)
    share.wait()
    assert share.device(torch.device("cuda")) == torch.device("cuda")


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Share(1, 4, 1).device(torch.device("cuda")) == torch.device("cuda", 1)
    assert Share(1, 4, 1).device(torch.device("cuda:0")) == torch.device("cuda:0")
    assert Share(1, 4, 1).device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(RunError, match="2 GPUs"):
        Share(2, 4, 2).device(torch.device("cuda"))


class Live(TorchDispatchMode):
    """Adds up the numbers in all tensors of at least `least` numbers that operations have made and that are still there."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.now, self.most = least, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor) and one.numel() >= self.least:
                self.now += one.numel()
                self.most = max(self.most, self.now)
                weakref.finalize(one, self.free, one.numel())
        return out

    def free(self, size: int) -> None:
        self.now -= size


def test_memory_grows_neither_with_samples_nor_with_steps(trained: Trained, tmp_path: Path) -> None:
    batch = 64

    def peak(n: int, steps: int) -> int:
        drawing = draw(trained, n, steps=steps, batch_size=batch)
        with Live(batch * 13) as live:
            stream(drawing, tmp_path / f"{n}-{steps}.npy")
        return live.most

    few = peak(600, 4)
    assert few > batch * 13
    assert peak(600, 32) <= 1.02 * few
    assert peak(9000, 4) <= 1.02 * few < 9000 * 13
