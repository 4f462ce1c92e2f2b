"""Pictures of samples, for viewing: they are not read back."""

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import torch

from sdezoo.data.dataset import Kind
from sdezoo.data.formats import FileFormat, Samples
from sdezoo.errors import RunError


@dataclass(frozen=True)
class Png(FileFormat):
    """A picture, .png: a near-square grid of images, a scatter plot of points in the plane, the paths of series or fans of
    forecasts, histograms of other data.

    Images are clipped to [0, 1] and rounded to the data's levels here and nowhere else. All samples are held in memory at once.
    """

    endings: ClassVar[tuple[str, ...]] = (".png",)
    form: ClassVar[str] = "a picture"
    kinds: ClassVar[tuple[Kind, ...]] = ("image", "table", "points", "series")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        # These load matplotlib, which takes as long as a few samples.
        from sdezoo.generation.pictures import figure, sheet
        from sdezoo.generation.series_pictures import fans, series
        from sdezoo.plots import save

        values = torch.cat(list(samples.parts))
        shown = values[~values.isnan()] if samples.kind == "table" else values  # NaN is a missing value there
        wrong = int((~shown.isfinite()).sum())
        if wrong or not shown.numel():
            raise RunError(
                f"The samples cannot be drawn: {f'{wrong} values are not finite' if wrong else 'there are none'}.",
                "Write .npz instead to inspect the values.",
            )
        if samples.kind == "image":
            sheet(values, samples.levels).save(file, format="PNG")
        elif samples.kind == "series":
            paths, windows = values.numpy(), samples.observed
            drawn = series(paths, samples.names) if windows is None else fans(paths, windows.numpy(), samples.given, samples.names)
            save(drawn, file, 120)
        else:
            save(figure(values.numpy(), samples.names), file, 120)
