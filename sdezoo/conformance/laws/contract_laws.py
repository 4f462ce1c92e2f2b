"""The contract of every process: shapes, dtypes, rows, noise, precision, support, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.conformance.bank.answers import answers, computed
from sdezoo.conformance.bank.cases import Case, each_variant, events, fitting_variants, process_cases, typical, wide_cases
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.evidence import check_staircase, close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.errors import SupportError
from sdezoo.process.affine import AffineSDE, slopes
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE, MatrixSDE

CONTRACT_LAWS: Suite[Process] = Suite(configuration_laws(Process, computed))

_MANY = 240  # of rows to adapt to; prime to 7
_WIDE = (torch.float64,)
_FAR = 5.0
_OVERFLOWING = (-200.0, -20.0, -3.0, -2.0)
_SEEDS = 40


def _support_forgotten(sde: Process, x0: Tensor) -> str:
    """What to say of a process that declares no support, if negative data may be what it does not take."""
    if type(sde).support is not Process.support or not (x0 < 0).any():
        return ""
    return f" The data, such as {float(x0.min()):.3g}, are real numbers, the default; if the process does not take all, override `support`."


@CONTRACT_LAWS.property_law(process_cases, first=True)
def contract(case: Case) -> None:
    """Every method returns finite numbers with the shape, dtype and device that the contract requires."""
    sde, x0, t = case.sde, case.x0, case.t
    lo, hi = sde.t_span
    if not 0 < lo < hi <= 1:
        raise LawError(f"t_span is ({lo}, {hi}), and 0 < lo < hi <= 1 was expected.")
    state = tuple(sde.state_shape(x0.shape))
    if state[:1] != x0.shape[:1]:
        raise LawError(f"state_shape{tuple(x0.shape)} is {state}; the batch must stay the first dimension.")
    z = case.draw()
    count = len(x0)
    like_state = {
        "perturb",
        "encode",
        "score_from_output",
        "drift",
        "diffuse",
        "divergence",
        "ggt",
        "reverse_drift",
        "project",
        "forward_step",
        "score",
        "target",
        "denoiser_from_output",
    }
    given = {"data": x0, "state": z, "time": t}
    before = {name: value.clone() for name, value in given.items()}
    found = answers(sde, x0, z, t, lambda: keyed(count, case.seed))
    _check_unchanged(given, before)
    found["prior"] = sde.prior(tuple(x0.shape), keyed(count), x0)
    for name, value in found.items():
        expected = state if name in like_state | {"prior"} else tuple(x0.shape) if name == "decode" else None
        if expected is not None and tuple(value.shape) != expected:
            raise LawError(f"{name} has shape {tuple(value.shape)}, and {expected} was expected.")
        if len(value) != count:
            raise LawError(f"{name} has shape {tuple(value.shape)}; the batch, {count}, must stay the first dimension.")
        if expected is not None and value.dtype != x0.dtype:
            raise LawError(f"{name} is {value.dtype}, and the state is {x0.dtype}.")
        if value.device != x0.device:
            raise LawError(f"{name} is on {value.device}, and the state is on {x0.device}.")
        if not torch.isfinite(value).all():
            example = value.flatten()[~torch.isfinite(value.flatten())][0].item()
            raise LawError(f"{name} is not finite: {example}.{_support_forgotten(sde, x0)}")
    _check_scales(sde, t, found)
    if isinstance(sde, ForwardSDE):
        _check_noise_shape(sde, state)


def _check_unchanged(given: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    for name, value in given.items():
        if not torch.equal(value, before[name]):
            raise LawError(f"A method changes the {name} that it is given.")


def _check_scales(sde: Any, t: Tensor, found: dict[str, Tensor]) -> None:
    for name in ("scale", "noise_conditioning"):
        shape = getattr(sde, name)(t).shape
        if shape != t.shape:
            raise LawError(f"{name} has shape {tuple(shape)} at times of shape {tuple(t.shape)}.")
    for name in ("scale", "error_scale"):
        if name in found and not (found[name] > 0).all():
            raise LawError(f"{name} is {float(found[name].min()):g}; it must be positive at every time of `t_span`.")


def _check_noise_shape(sde: ForwardSDE, state: tuple[int, ...]) -> None:
    shape = tuple(sde.noise_shape(state))
    if shape[:1] != state[:1]:
        raise LawError(f"noise_shape{state} is {shape}; the batch must stay the first dimension.")
    if not isinstance(sde, MatrixSDE) and np.broadcast_shapes(shape, state) != torch.Size(state):
        raise LawError(f"noise_shape{state} is {shape}, which does not broadcast to the state.")


def _batches(sde: Process) -> st.SearchStrategy[Case]:
    """Small batches, and batches as large as their events if the process takes rows of one dimension."""
    sizes = [event[0] for event in events(sde) if len(event) == 1] if sde.support.event_dim or sde.row_shape else [1, 2, 3, 4]
    small = process_cases(sde, rows=4, dtypes=_WIDE)
    return _square_cases(sde, sizes) | small if sizes else small


@st.composite
def _square_cases(draw: st.DrawFn, sde: Process, sizes: Sequence[int]) -> Case:
    """Batches as large as their events, with a different time for each row."""
    n = draw(st.sampled_from(list(sizes)))
    chosen: Any = draw(st.sampled_from(fitting_variants(sde, (n,))))
    lo, hi = chosen.t_span
    t = torch.linspace(lo, hi, n + 2, dtype=torch.float64)[1:-1]
    normals = torch.sin(torch.arange(1.0, n * n + 1, dtype=torch.float64)).reshape(n, n)
    ones = (1,) * (len(chosen.state_shape((n, n))) - 1)
    return Case(chosen, draw(st.sampled_from([0.5, 1.5])) * normals, t.reshape(n, *ones), draw(st.integers(0, 3)))


@CONTRACT_LAWS.property_law(_batches)
def rows_are_independent(case: Case) -> None:
    """A row has the same results alone and in a batch, also if the batch is as large as the event and if times are a column."""
    sde, x0, count = case.sde, case.x0, len(case.normals)
    column, z = case.column, sde.perturb(case.x0, case.column, keyed(count, case.seed))
    whole = answers(sde, x0, z, column, lambda: keyed(count, case.seed))
    for i in range(count):
        row, time = slice(i, i + 1), column[i].reshape(())
        alone = answers(sde, x0[row], z[row], time, lambda i=i: keyed(1, case.seed, first=i))
        for name, value in alone.items():
            size = float(whole[name].abs().max()) if whole[name].numel() else 0.0
            close(f"{name} of row {i} in the batch", whole[name][row], value, rtol=1e-6, atol=1e-6 * size)


@CONTRACT_LAWS.property_law(wide_cases, examples=15)
def keyed_noise_only(case: Case) -> None:
    """Samples depend on the noise that is passed in, on all of its key, and on no other randomness; torch's generator stays untouched."""
    sde, x0, count, lo_hi = case.sde, case.x0, len(case.normals), case.sde.t_span
    t = torch.tensor(sum(lo_hi) / 2, dtype=torch.float64)
    # Some discrete values, such as no items, no noise can change.
    tried = [x0, *(typical(sde, case.normals + away) for away in (-1, 1) if sde.support.is_discrete)]

    def draws(seed: int) -> list[Tensor]:
        found = [torch.cat([sde.perturb(x, t, keyed(count, seed)) for x in tried]), sde.prior(tuple(x0.shape), keyed(count, seed), x0)]
        return [*found, sde.forward_step(found[0][:count], t, t / 10, keyed(count, seed))] if isinstance(sde, ForwardSDE) else found

    state = torch.get_rng_state()
    try:
        torch.manual_seed(1)
        one = draws(case.seed)
        torch.manual_seed(2)
        kept = torch.get_rng_state()
        two, others = draws(case.seed), [draws(case.seed + 1)]
        # Discrete noise may agree by chance, and not often.
        while len(others) < _SEEDS and any(torch.equal(a, c) for a, c in zip(one, others[-1], strict=True)):
            others.append(draws(case.seed + 1 + len(others)))
        untouched = torch.equal(torch.get_rng_state(), kept)
    finally:
        torch.set_rng_state(state)
    if not untouched:
        raise LawError("It draws from torch's global generator.")
    start = sde.encode(x0, keyed(count, case.seed))
    still = isinstance(sde, ForwardSDE) and not sde.diffuse(start, t, start.new_ones(sde.noise_shape(start.shape))).any()
    last = torch.tensor(sde.t_span[1], dtype=torch.float64)
    ends = [sde.perturb(data, last, keyed(count, case.seed + k)) for k, data in enumerate((x0, typical(sde, case.normals + 1)))]
    quiet = {"perturb": still, "prior": torch.equal(*ends), "forward_step": still}  # no noise acts on some data, and all may end in a point
    for k, (name, a, b) in enumerate(zip(quiet, one, two, strict=False)):
        if not torch.equal(a, b):
            raise LawError(f"{name} differs between two calls with the same noise.")
        if all(torch.equal(a, other[k]) for other in others) and not quiet[name]:
            raise LawError(f"{name} is the same for two different noise seeds.")


@CONTRACT_LAWS.property_law(lambda sde: process_cases(sde, rows=2, dtypes=_WIDE, ends=(0.05, 0.95), reach=1.5), examples=6)
def precision(case: Case) -> None:
    """In float64 nothing passes through float32: results respond to changes of 1e-9 at the same rate as to changes of 1e-5."""
    sde, x0, count, t = case.sde, case.x0, len(case.normals), case.t
    z = case.draw()

    def moved(what: str, h: float) -> dict[str, Tensor]:
        data = typical(sde, case.normals + h) if what == "data" else x0
        state, time = z + h if what == "state" else z, t + h if what == "time" else t
        return answers(sde, data, state, time, lambda: keyed(count, case.seed), lambda name: _moves(name, what))

    for what in ("time",) if sde.support.is_discrete else ("data", "state", "time"):
        rates = []
        for offset in (0.0, 3e-6, 7e-6):
            base, coarse, fine = (moved(what, offset + h) for h in (0.0, 1e-5, 1e-9))
            rates.append({name: ((coarse[name] - base[name]) / 1e-5, (fine[name] - base[name]) / 1e-9) for name in base})
        for name in base:
            said, size = f"{name} as a function of the {what}", float(base[name].abs().max())
            kept = [rate[name] for rate in rates]
            try:
                check_staircase(said, kept, size)
            except LawError:
                if name != "perturb":
                    raise
                steady = _smooth(case, what)
                check_staircase(said, [(a[steady], b[steady]) for a, b in kept], size)


def _moves(name: str, what: str) -> bool:
    """Whether a method takes the data, the state or the time, and is smooth in it."""
    if name in {"project", "forward_step"}:
        return False
    if what == "data":
        return name in {"perturb", "encode", "score", "target", "log_prob"}
    return name not in ({"encode", "decode"} if what == "time" else {"perturb", "encode", "scale", "noise_conditioning", "error_scale"})


def _smooth(case: Case, what: str) -> Tensor:
    """Where draws change at a steady rate over seven disjoint windows of 1e-5: between jumps with a number that is drawn, they do not."""
    sde, rates = case.sde, []

    def moved(h: float) -> Tensor:
        data = typical(sde, case.normals + h) if what == "data" else case.x0
        return sde.perturb(data, case.t + h if what == "time" else case.t, keyed(len(case.normals), case.seed))

    for offset in (0.0, 1.1e-5, 2.3e-5, 3.6e-5, 5.2e-5, 6.7e-5, 8.4e-5):
        rates.append(moved(offset + 1e-5) - moved(offset))
    change = torch.stack(rates)
    return (change.sign() == change[0].sign()).all(0) & (change.abs().amax(0) <= 3 * change.abs().amin(0))


@CONTRACT_LAWS.property_law(process_cases)
def time_zero_is_the_data(case: Case) -> None:
    """At `t = 0` a sample is exactly the encoded data."""
    sde, x0, count = case.sde, case.x0, len(case.normals)
    zero = torch.zeros_like(case.t)
    z = sde.perturb(x0, zero, keyed(count, case.seed))
    tight = 1e-6 if x0.dtype == torch.float32 else 1e-12
    close("The decoded sample at t = 0", sde.decode(z), x0, rtol=tight, atol=tight)


@CONTRACT_LAWS.property_law(lambda sde: process_cases(sde, reach=6.0, dtypes=_WIDE), also=each_variant)
def decode_inverts_encode(case: Case) -> None:
    """`decode(encode(x)) = x` in the support, ends included, and `encode(decode(z)) = z` for bijective `φ`, far out or refused."""
    sde, x0, count = case.sde, case.x0, len(case.normals)
    for x in (x0, *_at_ends(sde, x0)):
        try:
            back = sde.decode(sde.encode(x, keyed(count)))
        except SupportError as error:
            raise LawError(f"The support has {float(x.flatten()[0]):g}, and `decode(encode(x))` refuses it: {error.problem}") from None
        close("decode(encode(x))", back, x, rtol=1e-8, atol=1e-10)
    if not sde.support.is_discrete:
        _decodes_near(sde, x0)
    if isinstance(sde, AffineSDE) and sde.coordinates.bijective:
        z = case.normals[tuple(slice(n) for n in sde.state_shape(case.normals.shape))]
        close("encode(decode(z))", sde.encode(sde.decode(z)), z, rtol=1e-6, atol=1e-6)
        if sde.element_wise:
            _far_out(sde, z)


def _decodes_near(sde: Any, x0: Tensor) -> None:
    """States next to those of the data decode to nearly the same, as they have to after the last step; states outside may be refused."""
    z = sde.encode(x0, keyed(len(x0)))
    for sign in (-1.0, 1.0):
        try:
            back = sde.decode(z + sign * 1e-7)
        except SupportError:
            continue
        close("The data of a state that is 1e-7 from that of x", back, x0, rtol=1e-4, atol=1e-5)


def _at_ends(sde: Process, x0: Tensor) -> list[Tensor]:
    """The data with their first entry at an end of the support, for each end that belongs to it."""
    ends = [getattr(sde.support, name, None) for name in ("lower_bound", "upper_bound")]
    found = []
    for end in ends:
        if end is not None:
            x = x0.clone()
            x.flatten(1)[:, 0] = float(torch.as_tensor(end).flatten()[0])  # of a table each column may have its own
            if sde.support.check(x).all():
                found.append(x)
    return found


def _far_out(sde: AffineSDE, z: Tensor) -> None:
    """`encode(decode(z)) = z` out to 5 terminal deviations and far beyond, to what rounding of the data allows; or `decode` refuses."""
    reach = _FAR * float(sde.scale(torch.tensor(sde.t_span[1], dtype=torch.float64)))
    for share in (*_OVERFLOWING, -1.0, -0.5, 0.5, 1.0, *(-share for share in _OVERFLOWING)):
        far = torch.full_like(z, share * reach)
        try:
            x = sde.decode(far)
        except SupportError:
            continue
        slope = slopes(sde.coordinates, far)[0].abs()
        lost = 8 * torch.finfo(x.dtype).eps * x.abs() / slope.clamp_min(1e-300)  # what one rounding of `x` moves `z` by
        excess = (sde.encode(x) - far).abs() - 1e-6 * far.abs() - lost
        if not bool((excess <= 0).all()):
            found = float(sde.encode(x).flatten()[int(excess.argmax())])
            raise LawError(f"encode(decode({share * reach:.6g})) is {found:.6g}, {abs(share) * _FAR:g} terminal deviations out.")


@CONTRACT_LAWS.property_law(
    lambda sde: st.tuples(process_cases(sde), st.sampled_from([1, 2, 5, 20, 100])),
    also=lambda sde: [(case, 1) for case in each_variant(sde)],
    examples=20,
)
def support(case_and_steps: tuple[Case, int]) -> None:
    """Samples, the prior and forward steps of any size decode into the support; `decode` may reject states that would round out of it."""
    case, steps = case_and_steps
    sde, noise = case.sde, Noise.seeded(case.seed)
    x0 = case.x0.repeat(50, *(1,) * (case.normals.ndim - 1))
    time = case.t if not case.t.ndim else case.t.repeat(50, *(1,) * (case.t.ndim - 1))
    states = {"perturb": sde.perturb(x0, time, noise), "prior": sde.prior(tuple(x0.shape), noise, x0)}
    if isinstance(sde, ForwardSDE):
        z, dt = sde.encode(x0, noise), torch.tensor(sde.t_span[1] / steps, dtype=torch.float64)
        for k in range(steps):
            z = sde.forward_step(z, k * dt, dt, noise)
        states[f"forward_step ({steps} steps up to t = {sde.t_span[1]:g})"] = z
    for name, z in states.items():
        if z.isnan().any():
            raise LawError(f"{name} is not a number for {int(z.isnan().flatten(1).any(1).sum())} of {len(z)} rows, from t = 0 on.")
        x = _decoded(sde, z)
        outside = count_outside(sde.support, x)
        if outside:
            raise LawError(f"{name} leaves the support: {outside} of {len(x)} values or rows.")


def _decoded(sde: Any, z: Tensor) -> Tensor:
    """`decode(z)`. States that are rejected because they would round to the boundary are halved until they are accepted."""
    for _ in range(12):
        try:
            return sde.decode(z)
        except SupportError:
            z = z / 2
    return sde.decode(z)


@CONTRACT_LAWS.property_law(lambda sde: process_cases(sde, rows=3, dtypes=_WIDE), also=each_variant, examples=10)
def adapted_once(case: Case) -> None:
    """`adapted` keeps the class and what was given, depends neither on the order of rows nor on their number, and changes nothing twice."""
    spread = typical(
        case.sde,
        torch.linspace(-1, 1.3, _MANY, dtype=torch.float64)[[(11 * k + 5) % _MANY for k in range(_MANY)]]
        .reshape(_MANY, *(1,) * (case.normals.ndim - 1))
        .expand(_MANY, *case.normals.shape[1:]),
    )
    before = spread.clone()
    adapted = case.sde.adapted(spread)
    _check_unchanged({"data": spread}, {"data": before})
    if type(adapted) is not type(case.sde):
        raise LawError(f"adapted returns a {type(adapted).__name__}, not a process of its own class.")
    if adapted.adapted(spread) != adapted:
        raise LawError(f"adapted once: {adapted.full_spec}; twice: {adapted.adapted(spread).full_spec}.")
    for order in ([(7 * k + 3) % _MANY for k in range(_MANY)], list(reversed(range(_MANY)))):
        shuffled = case.sde.adapted(spread[order])
        for key, value in adapted.parameters().items():
            given, other = case.sde.parameters()[key], shuffled.parameters()[key]
            if isinstance(given, int | float | tuple) and _numeric(given) and value != given:
                raise LawError(f"{key} = {given} was given, and adapting changes it to {value}.")
            numbers = [torch.tensor(v, dtype=torch.float64) for v in (value, other) if isinstance(v, float | tuple) and _numeric(v)]
            if len(numbers) == 2:
                close(f"{key} adapted to the rows in another order", numbers[1], numbers[0], rtol=1e-9, atol=1e-12)
    doubled = case.sde.adapted(torch.cat([spread, spread])).parameters()
    for key, value in adapted.parameters().items():
        if isinstance(value, float | tuple) and _numeric(value):
            once, twice = (torch.tensor(v, dtype=torch.float64) for v in (value, doubled[key]))
            close(f"{key} adapted to all rows, each twice,", twice, once, rtol=0.2, atol=0.05 * float(once.abs().max()))


def _numeric(value: float | tuple[object, ...]) -> bool:
    return not isinstance(value, tuple) or (len(value) > 0 and all(isinstance(part, float | int) for part in value))
