"""How good are generated digits? Four measures against held-out real ones, each with a bound.

    python docs/experiments/digits_quality.py samples.npz [--json]

`samples.npz` holds `x`, of shape (N, 1, 8, 8): generated digits with pixels in [0, 1], more or less. The real ones are
the 1797 images of `sklearn.datasets.load_digits` over 16, split by class into 899 for training and 898 held out, with a
fixed seed. Real pixels are multiples of 1/16, so generated ones are first clipped to [0, 1] and rounded to them.

two-sample accuracy
    How often an RBF support vector machine tells generated from held-out digits, in 5-fold cross-validation on equally
    many of both: 0.5 is chance. It is measured on pixels and on standardised pixels, and the worse of the two counts.
sure digits
    How often a calibrated digit classifier, fit to the training half, is more than 90 % sure of a generated digit,
    over how often it is of a held-out one. Blurred or mixed shapes lower it.
rarest class
    The fraction of generated digits in the class that the same classifier sees least. A missing mode lowers it.
nearest training image
    The median Euclidean distance from a generated digit to its nearest training image, over that from a held-out one.
    Copies of training images lower it, noise raises it.

The exit status is 1 if a bound fails, 2 if the samples cannot be used.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

Images = NDArray[np.float32]
"""Flattened images, (N, 64)."""


@dataclass(frozen=True)
class Measure:
    """One number, and the bounds, inclusive, that it has to keep."""

    name: str
    value: float
    lowest: float
    highest: float

    @property
    def kept(self) -> bool:
        return self.lowest <= self.value <= self.highest


def digits() -> tuple[Images, Images, NDArray[np.int64]]:
    """The training images (899, 64), the held-out ones (898, 64) and the labels (899,) of the former."""
    pixels, y = load_digits(return_X_y=True)
    X = (np.asarray(pixels).reshape(-1, 1, 8, 8) / 16).astype(np.float32)  # noqa: N806
    train, held_out, labels, _ = map(np.asarray, train_test_split(X, y, test_size=898, random_state=0, stratify=y))
    return train.reshape(len(train), -1), held_out.reshape(len(held_out), -1), labels


def lattice(x: NDArray[np.floating]) -> Images:
    """Images (N, 1, 8, 8) clipped to [0, 1], rounded to multiples of 1/16 and flattened to (N, 64)."""
    return (np.round(np.clip(x.reshape(len(x), -1), 0, 1) * 16) / 16).astype(np.float32)


def two_sample_accuracies(a: Images, b: Images) -> tuple[float, float]:
    """The accuracy of telling a from b, on pixels and standardised; of the longer one, a random part is used."""
    size = min(len(a), len(b))
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.permutation(a)[:size], rng.permutation(b)[:size]])
    y = np.repeat([0, 1], size)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    plain = cross_val_score(SVC(), x, y, cv=folds)
    standardised = cross_val_score(make_pipeline(StandardScaler(), SVC()), x, y, cv=folds)
    return float(plain.mean()), float(standardised.mean())


def nearest(x: Images, train: Images) -> float:
    """The median distance from an image of x to its nearest training image."""
    return float(np.median(pairwise_distances_argmin_min(x, train)[1]))


def measures(x: Images) -> list[Measure]:
    """All measures of the generated images x, (N, 64), on the lattice."""
    train, held_out, labels = digits()
    # Of sklearn's calibrations this one has the lowest log loss on held-out digits (0.054), where it is sure of 94.5 %.
    classifier = CalibratedClassifierCV(SVC(C=10), method="isotonic", cv=5).fit(train, labels)
    generated, real = classifier.predict_proba(x), classifier.predict_proba(held_out)
    sure = (generated.max(axis=1) > 0.9).mean() / (real.max(axis=1) > 0.9).mean()
    fractions = np.bincount(generated.argmax(axis=1), minlength=10) / len(x)
    near = nearest(x, train) / nearest(held_out, train)
    return [
        Measure("two-sample accuracy", max(two_sample_accuracies(x, held_out)), 0.0, 0.6),
        Measure("sure digits, generated / held out", float(sure), 0.9, np.inf),
        Measure("rarest class", float(fractions.min()), 0.04, 1.0),
        Measure("nearest training image, generated / held out", near, 0.8, 1.25),
    ]


def interval(measure: Measure) -> str:
    """The bounds of a measure in words."""
    if measure.lowest <= 0:
        return f"at most {measure.highest:g}"
    if measure.highest in (1.0, np.inf):
        return f"at least {measure.lowest:g}"
    return f"{measure.lowest:g} to {measure.highest:g}"


def read(path: Path) -> Images:
    """The samples in a file.

    Raises:
        ValueError: when the file holds no images (N, 1, 8, 8) with N of at least 100, or numbers that are not finite.
        OSError: when it cannot be opened.
    """
    with np.load(path) as file:
        if "x" not in file:
            raise ValueError(f"{path} has no array x.")
        x = file["x"]
    if x.shape[1:] != (1, 8, 8) or len(x) < 100:
        raise ValueError(f"x has shape {x.shape}, but (N, 1, 8, 8) with N of at least 100 is needed.")
    if not np.isfinite(x).all():
        raise ValueError("x has entries that are not finite.")
    return lattice(x)


def main() -> int:
    """Measure, print and return the exit status."""
    parser = argparse.ArgumentParser(description="Four measures of generated digits against held-out real ones.")
    parser.add_argument("samples", type=Path, help="an .npz file with x, (N, 1, 8, 8)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        x = read(arguments.samples)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    results = measures(x)
    passed = all(measure.kept for measure in results)
    if arguments.json:
        rows = [asdict(m) | {"highest": m.highest if np.isfinite(m.highest) else None, "kept": m.kept} for m in results]
        print(json.dumps({"samples": len(x), "measures": rows, "passed": passed}, indent=2))
    else:
        wide = max(len(measure.name) for measure in results)
        for m in results:
            print(f"{m.name:{wide}}  {m.value:6.3f}  {interval(m):14}  {'ok' if m.kept else 'FAILED'}")
        train, held_out, _ = digits()
        print(f"{'two-sample accuracy of real training digits':{wide}}  {max(two_sample_accuracies(train, held_out)):6.3f}")
        print(f"{'spread of a pixel, generated / held out':{wide}}  {x.std(axis=0).mean() / held_out.std(axis=0).mean():6.3f}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
