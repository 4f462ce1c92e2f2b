"""A process of somebody else, in a distribution of its own: installed beside sdezoo's wheel, or loaded from its file."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.third_party.environment import Environment, run

OURS = Path(__file__).parent / "sdezoo-hyperbolic"
WHERE = """
import json, sdezoo, sdezoo_cli, sdezoo_hyperbolic, sdezoo_plugins
from importlib.metadata import distributions, entry_points
print(json.dumps({
    "files": [module.__file__ for module in (sdezoo, sdezoo_cli, sdezoo_hyperbolic, sdezoo_plugins)],
    "names": [point.name for point in entry_points(group="sdezoo.sdes")],
    "distributions": [found.name for found in distributions() if "sdezoo" in found.name],
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("environment"))
    made.install(OURS)
    _write_gains(made.home / "gains.csv")
    return made


def _write_gains(path: Path) -> None:
    rows = np.random.default_rng(0).standard_t([2.0, 3.0], (200, 2))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["stocks", "bonds"], *rows.tolist()])


def _samples(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1)


def sdezoo(folder: Path, *arguments: object) -> str:
    """`sdezoo …` of the running environment, where the distribution is not installed."""
    return run(sys.executable, "-m", "sdezoo_cli", *arguments, cwd=folder)


def test_what_is_imported_is_what_was_installed(environment: Environment) -> None:
    found = json.loads(environment("python", "-c", WHERE))
    assert all(Path(file).is_relative_to(environment.packages) for file in found["files"]), found
    assert sorted(found["distributions"]) == ["sdezoo", "sdezoo-hyperbolic"]
    assert sorted(found["names"]) == sorted({*found["names"]})
    assert {"hyperbolic", "gbm"} <= {*found["names"]}


def test_it_is_listed_and_shown(environment: Environment) -> None:
    listed = json.loads(environment("sdezoo", "list", "sdes", "--json"))["sdes"]
    assert listed["hyperbolic"]["broken"] is None
    assert listed["hyperbolic"]["summary"].startswith("Hyperbolic diffusion")
    shown = environment("sdezoo", "show", "hyperbolic")
    for text in ("from sdezoo-hyperbolic", "dX = σ² t X dt + σ √(2t (1 + X²)) dW", "sigma", "the real line", "dsm", "dpmpp-2m"):
        assert text in shown


def test_it_obeys_the_laws(environment: Environment) -> None:
    environment("sdezoo", "check", "hyperbolic")


@pytest.mark.slow
def test_it_passes_its_own_tests(environment: Environment) -> None:
    report = environment("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", OURS / "tests")
    assert "passed" in report
    assert "skipped" not in report


def test_it_trains_and_its_samples_are_finite(environment: Environment) -> None:
    environment("sdezoo", "train", "--sde", "hyperbolic", "--loss", "dsm", "--steps", 30, "--data", "gains.csv", "--out", "run", "--quiet")
    environment("sdezoo", "sample", "run", "--sampler", "dpmpp-2m", "-n", 200, "--steps", 20, "--out", "more.csv", "--quiet")
    more = _samples(environment.home / "more.csv")
    assert more.shape == (200, 2)
    assert np.isfinite(more).all()
    assert (environment.home / "more.csv").read_text().splitlines()[0].replace('"', "") == "stocks,bonds"


def test_its_file_is_enough(tmp_path: Path) -> None:
    file = OURS / "sdezoo_hyperbolic.py"
    before = sorted(OURS.iterdir())
    _write_gains(tmp_path / "gains.csv")
    assert "  hyperbolic  " in sdezoo(tmp_path, "list", "--plugin", file)
    sdezoo(tmp_path, "train", "--plugin", file, "--sde", "hyperbolic", "--steps", 2, "--data", "gains.csv", "--out", "run", "--quiet")
    sdezoo(tmp_path, "sample", "run", "--plugin", file, "--steps", 5, "--out", "more.csv", "--quiet")
    assert np.isfinite(_samples(tmp_path / "more.csv")).all()
    assert sorted(OURS.iterdir()) == before
