"""The Wisconsin diagnostic breast cancer data, shipped with scikit-learn: nothing is downloaded."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from sdezoo.data.dataset import Data, Dataset


@dataclass(frozen=True)
class BreastCancer(Dataset):
    """569 real tumours, 30 measurements each, none negative, zeros in six columns (UCI, by way of scikit-learn).

    A table: (284, 30) for training, (285, 30) held out, in the units of the source images. Labels are malignant and benign; the split is
    stratified by label. Positive processes need `--shift auto`.
    """

    def load(self) -> Data:
        cells = load_breast_cancer()
        assert isinstance(cells, Bunch)
        split = train_test_split(cells["data"], cells["target"], test_size=0.5, random_state=0, stratify=cells["target"])
        train, test, train_labels, test_labels = map(torch.from_numpy, split)
        columns = tuple(cells["feature_names"])
        names = tuple(cells["target_names"].tolist())
        return Data(train.float(), test.float(), "table", columns, train_labels.long(), test_labels.long(), class_names=names)
