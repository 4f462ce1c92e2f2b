"""One process of each kind goes the whole way: trained, sampled and checked by the commands that a user types."""

import numpy as np
import pytest

KINDS = {
    "affine": "gbm",
    "an SDE inside a set": "reflected",
    "an SDE whose state is more than the data": "cld",
    "no SDE": "rectified-flow",
}


@pytest.mark.parametrize("sde", KINDS.values(), ids=KINDS)
def test_train_sample_check(terminal, tmp_path, sde):
    rows = np.random.default_rng(0).dirichlet(np.full(4, 20), 90).astype(np.float32)  # positive, and inside the unit box
    np.save(tmp_path / "rows.npy", rows)
    code, out, err = terminal("train", "--sde", sde, "--data", "rows.npy", "--steps", 20, "--batch-size", 32, "--out", "run")
    assert code == 0, err
    code, out, err = terminal("sample", "run", "--steps", 5, "-n", 8, "--out", "samples.npy")
    assert code == 0, err
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (8, 4)
    assert np.isfinite(samples).all()
    code, out, err = terminal("check", sde)
    assert code == 0, out + err
    assert "broken" not in out
