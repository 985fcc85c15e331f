"""Sparse neural networks by relaxed variable splitting, in JAX."""

__version__ = "0.1.0"

from rvsmjax import methods as methods
from rvsmjax.export import from_bcoo as from_bcoo
from rvsmjax.export import nm_violations as nm_violations
from rvsmjax.export import to_bcoo as to_bcoo
from rvsmjax.geometry import angle as angle
from rvsmjax.penalties import L0 as L0
from rvsmjax.penalties import L1 as L1
from rvsmjax.penalties import NM as NM
from rvsmjax.penalties import Grouped as Grouped
from rvsmjax.penalties import Penalty as Penalty
from rvsmjax.penalties import TopK as TopK
from rvsmjax.penalties import TransformedL1 as TransformedL1
from rvsmjax.penalties import moreau_envelope as moreau_envelope
from rvsmjax.problems import NoOverlapBinary as NoOverlapBinary
from rvsmjax.problems import NoOverlapReLU as NoOverlapReLU
from rvsmjax.problems import OneLayerProblem as OneLayerProblem
from rvsmjax.schedules import cosine_sparsity as cosine_sparsity
from rvsmjax.schedules import cubic_sparsity as cubic_sparsity
from rvsmjax.solve import Solution as Solution
from rvsmjax.solve import Status as Status
from rvsmjax.solve import solve as solve
from rvsmjax.storage import load_npz as load_npz
from rvsmjax.storage import load_safetensors as load_safetensors
from rvsmjax.storage import save_npz as save_npz
from rvsmjax.storage import save_safetensors as save_safetensors
from rvsmjax.sweep import Grid as Grid
from rvsmjax.sweep import SweepResult as SweepResult
from rvsmjax.sweep import lower_sweep as lower_sweep
from rvsmjax.sweep import run_sweep as run_sweep
from rvsmjax.transforms import adaptive_hard_threshold as adaptive_hard_threshold
from rvsmjax.transforms import admm as admm
from rvsmjax.transforms import keep_zeros as keep_zeros
from rvsmjax.transforms import lam_for_sparsity as lam_for_sparsity
from rvsmjax.transforms import rvsm as rvsm
from rvsmjax.transforms import scalars as scalars
from rvsmjax.transforms import sparse_params as sparse_params
from rvsmjax.transforms import sparsify as sparsify
from rvsmjax.transforms import sparsity as sparsity
from rvsmjax.transforms import sparsity_mask as sparsity_mask
from rvsmjax.transforms import unit_sphere as unit_sphere
