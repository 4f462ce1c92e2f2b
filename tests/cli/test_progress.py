"""What is printed while one waits: on a terminal a bar, elsewhere a line every ten seconds."""

import re
from collections.abc import Iterator
from itertools import count

import pytest

from sdezoo_cli import progress


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    ticks = count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))
    return ticks


def test_a_log_gets_a_line_every_ten_seconds_and_the_end(seconds, capsys) -> None:
    with progress.bar("training", 35, shown=True) as update:
        for done in range(1, 36):
            update(done, 35, f"loss {done}")
    lines = capsys.readouterr().err.splitlines()
    assert [int(re.findall(r"(\d+)/35", line)[0]) for line in lines] == [10, 20, 30, 35]
    assert lines[0] == "training 10/35  loss 10  1.0/s  0:00:25 left"


def test_what_comes_next_has_its_own_end(seconds, capsys) -> None:
    with progress.bar("evaluating", None, shown=True) as update:
        for what in ("sampling", "measuring"):
            for done in range(4):
                update(done, 3, what)
            update(3, 3, what)
    assert [line.split("  ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["evaluating 3/3", "sampling"],
        ["evaluating 3/3", "measuring"],
    ]


def test_nothing_is_printed_where_nothing_is_asked_for(capsys) -> None:
    with progress.bar("training", 3, shown=False) as update:
        update(3, 3, "x")
    assert capsys.readouterr().err == ""
