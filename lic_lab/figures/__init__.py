"""Figures for papers: one function each, from a trace to a matplotlib figure. `png` makes fast pictures for widgets."""

from lic_lab.figures.attention_maps import attention
from lic_lab.figures.bits import bit_map, bit_map_difference, bit_split
from lic_lab.figures.channels import channel_entropy
from lic_lab.figures.correlations import cosine_similarity, spatial_correlation
from lic_lab.figures.curves import Curve
from lic_lab.figures.distributions import latent_histograms
from lic_lab.figures.rates import rate_savings
from lic_lab.figures.rd import rd_curves
from lic_lab.figures.reconstructions import reconstruction
from lic_lab.figures.references import reference_maps, reference_pairs
from lic_lab.figures.savings import ablation
from lic_lab.figures.stages import progressive_stages
from lic_lab.figures.style import COLUMN, PAGE, STYLE
from lic_lab.figures.tables import bd_rate_table
from lic_lab.figures.tradeoff import bd_rate_complexity

__all__ = [
    "COLUMN",
    "PAGE",
    "STYLE",
    "Curve",
    "ablation",
    "attention",
    "bd_rate_complexity",
    "bd_rate_table",
    "bit_map",
    "bit_map_difference",
    "bit_split",
    "channel_entropy",
    "cosine_similarity",
    "latent_histograms",
    "progressive_stages",
    "rate_savings",
    "rd_curves",
    "reconstruction",
    "reference_maps",
    "reference_pairs",
    "spatial_correlation",
]
