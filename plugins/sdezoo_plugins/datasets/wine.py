"""The wine recognition data, shipped with scikit-learn: nothing is downloaded."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from sdezoo.data.dataset import Data, Dataset


@dataclass(frozen=True)
class Wine(Dataset):
    """178 real wines, 13 positive measurements each (UCI, by way of scikit-learn).

    A table: (89, 13) for training, as many rows held out, in laboratory units. Labels are the three cultivars; the split is stratified by
    label.
    """

    def load(self) -> Data:
        wine = load_wine()
        assert isinstance(wine, Bunch)
        split = train_test_split(wine["data"], wine["target"], test_size=0.5, random_state=0, stratify=wine["target"])
        train, test, train_labels, test_labels = map(torch.from_numpy, split)
        columns = tuple(wine["feature_names"])
        names = tuple(wine["target_names"].tolist())
        return Data(train.float(), test.float(), "table", columns, train_labels.long(), test_labels.long(), class_names=names)
