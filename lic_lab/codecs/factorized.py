"""Factorized prior: the baseline of Balle et al., "Variational image compression with a scale hyperprior", ICLR 2018.

No side information and no context: each channel of y has one learned distribution.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lic_lab.codecs.codec import Codec
from lic_lab.entropy.factorized import FactorizedEntropy
from lic_lab.transforms.conv import Analysis, Synthesis


class Factorized(Codec):
    """x --g_a--> y --bottleneck--> y_hat --g_s--> x_hat.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of y.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 128, "M": 192},  # [paper], for the lower rates
        "small": {"N": 64, "M": 96},  # [ours]
    }

    def __init__(self, N: int, M: int):
        super().__init__(
            Analysis(N, M), Synthesis(N, M), None, FactorizedEntropy(M), "factorized", self.size_name(N=N, M=M)
        )

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        return {"N": len(state_dict["g_a.0.weight"]), "M": len(state_dict["g_a.6.weight"])}
