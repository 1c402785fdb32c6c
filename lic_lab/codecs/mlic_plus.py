"""MLIC+: Jiang et al., "MLIC: Multi-Reference Entropy Model for Learned Image Compression", ACM MM 2023.

MLIC (`mlic`) with MEM+(g_lc,attn, g_ch, g_gc,intra, g_gc,inter) and M = 320 (Table 2): `AttentionContext` (Eq. 6-8),
`IntraSliceContext` (Eq. 9-11) and `InterSliceContext` (Eq. 12-14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lic_lab.codecs.mlic import MLIC, K
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.channel import ChannelContext
from lic_lab.entropy.contexts.globally import InterSliceContext, IntraSliceContext
from lic_lab.entropy.contexts.local import AttentionContext
from lic_lab.entropy.order import CodingOrder


class MLICPlus(MLIC):
    """MLIC with the richer entropy model MEM+. See `MLIC` for the parameters."""

    NAME = "mlic+"
    SIZES: ClassVar[dict[str, dict[str, int]]] = {"paper": {"N": 192, "M": 320}}  # [paper, Table 2]
    SMALL: ClassVar[dict[str, str]] = {
        "channel": "conv",
        "local": "attention",
        "global": "intra+inter",
        "refinement": "lrp",
    }

    @staticmethod
    def contexts(order: CodingOrder) -> Mapping[str, Context]:
        """The context components of Table 2, by slot."""
        return {
            "channel": ChannelContext(order, hidden=(192, 128), expand=4),  # [released code of MLIC++]
            "local": AttentionContext(order, K),
            "intra": IntraSliceContext(order, K),
            "inter": InterSliceContext(order, K),
        }
