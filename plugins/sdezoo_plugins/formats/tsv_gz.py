"""Tab-separated values, compressed by gzip. `sdezoo.data.opening` reads them as untrusted input."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from sdezoo.data.filling import Filling, fill_text
from sdezoo.data.formats import OpenedFormat, Samples
from sdezoo.data.tables import write_text


@dataclass(frozen=True)
class TsvGz(OpenedFormat):
    """A compressed table, .tsv.gz: as .tsv, by gzip."""

    endings: ClassVar[tuple[str, ...]] = (".tsv.gz",)

    def write(self, samples: Samples, file: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            write_text(samples.parts, samples.names, samples.types, "\t", cast("BinaryIO", packed))

    def fill(self, path: Path, file: BinaryIO, columns: Mapping[str, Filling], draws: int) -> None:
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            fill_text(path, cast("BinaryIO", packed), columns, draws)
