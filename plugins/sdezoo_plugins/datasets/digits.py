"""The handwritten digits shipped with scikit-learn: nothing is downloaded."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sdezoo.data.dataset import Data, Dataset


@dataclass(frozen=True)
class Digits(Dataset):
    """1797 real handwritten digits, 8 × 8 in 17 grey levels (UCI, by way of scikit-learn).

    Images in [0, 1]: (899, 1, 8, 8) for training, 898 held out. Labels are the digits 0 to 9; the split is stratified by label.
    """

    def load(self) -> Data:
        pixels, classes = load_digits(return_X_y=True)
        split = train_test_split(pixels, classes, test_size=898, random_state=0, stratify=classes)
        train, test, train_labels, test_labels = map(torch.from_numpy, split)
        return Data(
            train.float().reshape(-1, 1, 8, 8) / 16,
            test.float().reshape(-1, 1, 8, 8) / 16,
            "image",
            train_labels=train_labels.long(),
            test_labels=test_labels.long(),
            levels=16,
        )
