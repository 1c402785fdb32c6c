"""What a trace tells: pure functions, arrays in and arrays out. Nothing here knows torch or a codec."""

from lic_lab.analysis.attention import head_mean, mean_distance, outline, surroundings
from lic_lab.analysis.correlation import (
    WEIGHTINGS,
    channel_correlation,
    cosine_similarity_map,
    noise_floor,
    spatial_correlation,
    strongest,
    vectors,
)
from lic_lab.analysis.distributions import mean_shift, pooled, symbol_entropy
from lic_lab.analysis.entropy_maps import (
    bit_map,
    channel_bits,
    channels_holding,
    difference,
    highest_channels,
    part_table,
    split,
)
from lic_lab.analysis.grid import upsample
from lic_lab.analysis.rates import mean_curve, rate_saving
from lic_lab.analysis.references import distances, pick_pairs

__all__ = [
    "WEIGHTINGS",
    "bit_map",
    "channel_bits",
    "channel_correlation",
    "channels_holding",
    "cosine_similarity_map",
    "difference",
    "distances",
    "head_mean",
    "highest_channels",
    "mean_curve",
    "mean_distance",
    "mean_shift",
    "noise_floor",
    "outline",
    "part_table",
    "pick_pairs",
    "pooled",
    "rate_saving",
    "spatial_correlation",
    "split",
    "strongest",
    "surroundings",
    "symbol_entropy",
    "upsample",
    "vectors",
]
