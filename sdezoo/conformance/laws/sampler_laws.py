"""All laws of samplers: the contract of a run, the distribution of its samples, and its steps."""

from __future__ import annotations

from sdezoo.conformance.law import Suite
from sdezoo.conformance.laws.recovery_laws import RECOVERY_LAWS
from sdezoo.conformance.laws.run_laws import RUN_LAWS
from sdezoo.conformance.laws.step_laws import STEP_LAWS
from sdezoo.sampling.sampler import Sampler

SAMPLER_LAWS: Suite[Sampler] = Suite(RUN_LAWS, RECOVERY_LAWS, STEP_LAWS)
