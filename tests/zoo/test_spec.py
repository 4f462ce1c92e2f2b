"""Spec strings: nothing but a `ParameterError` comes of a bad one, and a good one survives the way there and back."""

import dataclasses
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdezoo.errors import ParameterError, PluginError
from sdezoo.parameters import Count, Fraction, NonNegative, Plugin, Positive, describe, format_value
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from sdezoo.zoo.spec import parse, shown, suggestion
from tests.analytic import VARIANTS

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", fullmatch=True)
keys = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)
plain = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._-+/"), min_size=1)
values = st.one_of(plain, st.lists(plain, max_size=4).map(tuple))


@given(st.one_of(st.text(), st.text(alphabet="ab:=,() .-1", max_size=20)))
@example("")
@example("gbm:")
@example("gbm:sigma")
@example("gbm:sigma=")
@example("gbm:=1")
@example("gbm:a=1,,b=2")
@example("gbm:a=(1,2")
@example("gbm:a=1,a=2")
@example(" :a=1")
def test_arbitrary_text_is_parsed_or_refused(text):
    try:
        name, found = parse(text)
    except ParameterError as error:
        refusal = error
    else:
        assert name
        assert all(key.isidentifier() and (isinstance(value, tuple) or value) for key, value in found.items())
        return
    assert refusal.problem.endswith(".")
    assert refusal.remedy.endswith(".")


@given(names, st.dictionaries(keys, values, max_size=4))
def test_what_is_written_is_read(name, given_values):
    written = name + (":" + ",".join(f"{k}={format_value(v)}" for k, v in given_values.items()) if given_values else "")
    assert parse(written) == (name, given_values)


def test_spaces_around_the_parts_do_not_matter():
    assert parse(" unet:width = 64 , multipliers=( 1, 2 ) ") == ("unet", {"width": "64", "multipliers": ("1", "2")})


@pytest.mark.parametrize("text", ["", "gbm:", "gbm:sigma", "gbm:sigma=", "gbm:=1", "gbm:s 1", "g b", "gbm:a=1,a=2", "a:b=1,", "../gbm"])
def test_malformed_specs_are_refused(text):
    with pytest.raises(ParameterError):
        parse(text)


@given(st.text(max_size=12))
@example("nan")
@example("inf")
@example("1e999")
@example("-0.5")
@example("0")
@example("9" * 5000)
def test_arbitrary_values_are_taken_or_refused(value):
    try:
        sde = SDES.build(f"gbm:sigma={value}")
    except ParameterError:
        return
    assert sde.sigma is None or sde.sigma > 0


@pytest.mark.parametrize(
    ("registry", "spec", "says"),
    [
        (SDES, "gbm:sigma=-1", ["gbm", "sigma=-1", "number above 0"]),
        (SDES, "gbm:sigma=0", ["sigma=0", "above 0"]),
        (SDES, "gbm:sigma=nan", ["sigma=nan", "above 0"]),
        (SDES, "gbm:sigma=inf", ["sigma=inf"]),
        (SDES, "gbm:sigma=fast", ["sigma=fast", "a number"]),
        (SDES, "gbm:sigma=(1,2)", ["sigma=(1,2)", "a number"]),
        (SDES, "gbm:sigm=1", ["gbm", "'sigm'", "Did you mean 'sigma'?"]),
        (SDES, "vp:beta_min=-0.1", ["beta_min=-0.1", "at least 0"]),
        (SDES, "ve:sigma_min=2,sigma_max=1", ["sigma_min=2", "sigma_max=1"]),
        (SAMPLERS, "ddim:eta=1.5", ["eta=1.5", "at least 0 and at most 1"]),
        (SAMPLERS, "pc:inner=0", ["inner=0", "an integer at least 1"]),
        (SAMPLERS, "pc:inner=1.5", ["inner=1.5", "an integer"]),
        (SAMPLERS, "torchsde:method=rk4", ["method=rk4", "one of euler, milstein"]),
        (SAMPLERS, "heun:spacing=log", ["spacing=log", "auto, uniform, karras, log-snr"]),
        (LOSSES, "dsm:weighting=mine", ["weighting=mine", "paper, uniform, edm"]),
    ],
)
def test_refusals_name_field_value_and_range(registry, spec, says):
    with pytest.raises(ParameterError) as error:
        registry.build(spec)
    for words in says:
        assert words in str(error.value)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(PluginError, match=r"There is no SDE 'gmb'. Did you mean 'gbm'\?"):
        SDES.build("gmb")
    with pytest.raises(PluginError, match=r"There is no sampler 'zzzzz'. Choose one of: ancestral, "):
        SAMPLERS.build("zzzzz")
    assert suggestion("a", []) == "Leave it out: there are none."


OBJECTS = [(r, part.spec) for r in (SDES, LOSSES, SAMPLERS) for _, part in defaults(r)]
OBJECTS += [(SDES, spec) for spec in VARIANTS]
CHANGED = ["ddim:eta=0.3", "pc:snr=0.1,inner=2", "dale-langevin:preset=paper,recipe=cifar10", "heun:spacing=log-snr"]
OBJECTS += [(SAMPLERS, spec) for spec in CHANGED]


@pytest.mark.parametrize(("registry", "spec"), OBJECTS, ids=[spec for _, spec in OBJECTS])
def test_build_spec_build(registry, spec):
    part = registry.build(spec)
    assert registry.build(part.spec) == part
    assert registry.build(part.spec).spec == part.spec
    assert hash(registry.build(part.spec)) == hash(part)
    full = ",".join(f"{k}={format_value(v)}" for k, v in part.parameters().items())
    assert registry.build(f"{spec.partition(':')[0]}:{full}" if full else spec) == part


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_floats_survive_their_spec(sigma, mu):
    sde = SDES.build("gbm")
    sde = dataclasses.replace(sde, sigma=sigma, mu=mu)
    assert SDES.build(sde.spec) == sde


@pytest.mark.parametrize(("registry", "spec"), OBJECTS, ids=[spec for _, spec in OBJECTS])
def test_fields_are_frozen(registry, spec):
    part = registry.build(spec)
    for key in [*part.parameters(), "anything"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, key, 1.0)


@dataclasses.dataclass(frozen=True)
class Sample(Plugin):
    a: Positive
    b: NonNegative | None = None
    c: Fraction = 0.5
    d: Count = 3
    e: Literal["x", "y"] = "x"
    f: tuple[int, ...] = (1, 2)
    g: bool = True


def test_descriptions_say_what_is_allowed():
    assert {p.name: (p.allowed, p.required) for p in describe(Sample)} == {
        "a": ("a number above 0", True),
        "b": ("a number at least 0 or none", False),
        "c": ("a number at least 0 and at most 1", False),
        "d": ("an integer at least 1", False),
        "e": ("one of x, y", False),
        "f": ("a list in parentheses, each an integer", False),
        "g": ("true or false", False),
    }


def test_values_are_converted_from_text():
    sample = Sample(a="0.8", b=None, d="4", f=("3", "4"), g="false")
    assert sample == Sample(0.8, None, 0.5, 4, "x", (3, 4), False)
    assert sample.spec == "Sample:a=0.8,d=4,f=(3,4),g=false"


def test_a_subclass_that_is_not_registered_does_not_go_by_its_parents_name():
    """Its spec would build the parent."""
    parent = type(SDES.build("gbm"))

    @dataclasses.dataclass(frozen=True)
    class Mine(parent):
        pass

    assert Mine.title() == "Mine"
    assert Mine(sigma=0.5).spec == "Mine:sigma=0.5"


def test_a_message_shows_the_beginning_of_a_long_text():
    with pytest.raises(ParameterError) as refusal:
        parse("gbm:" + "x" * 100_000)
    assert len(str(refusal.value)) < 1000
    assert "xxx…" in refusal.value.problem
    assert shown("short") == "short"
