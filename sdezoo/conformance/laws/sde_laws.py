"""All laws of processes: the contract, point by point, what a network sees, on average, what it claims, and
restoring from a checkpoint."""

from __future__ import annotations

from sdezoo.conformance.law import Suite
from sdezoo.conformance.laws.boundary_laws import BOUNDARY_LAWS
from sdezoo.conformance.laws.calculus_laws import CALCULUS_LAWS
from sdezoo.conformance.laws.claims.adapting_laws import ADAPTING_LAWS
from sdezoo.conformance.laws.claims.bridge_laws import BRIDGE_LAWS
from sdezoo.conformance.laws.claims.claim_laws import CLAIM_LAWS
from sdezoo.conformance.laws.claims.data_laws import DATA_LAWS
from sdezoo.conformance.laws.claims.density_laws import DENSITY_LAWS
from sdezoo.conformance.laws.claims.noise_laws import NOISE_LAWS
from sdezoo.conformance.laws.contract_laws import CONTRACT_LAWS
from sdezoo.conformance.laws.denoiser_laws import DENOISER_LAWS
from sdezoo.conformance.laws.draw_laws import DRAW_LAWS
from sdezoo.conformance.laws.network_laws import NETWORK_LAWS
from sdezoo.conformance.laws.restoring_laws import RESTORING_LAWS
from sdezoo.process.process import Process

SDE_LAWS: Suite[Process] = Suite(
    CONTRACT_LAWS,
    CALCULUS_LAWS,
    NETWORK_LAWS,
    DRAW_LAWS,
    BOUNDARY_LAWS,
    DENOISER_LAWS,
    DENSITY_LAWS,
    DATA_LAWS,
    ADAPTING_LAWS,
    CLAIM_LAWS,
    NOISE_LAWS,
    BRIDGE_LAWS,
    RESTORING_LAWS,
)
