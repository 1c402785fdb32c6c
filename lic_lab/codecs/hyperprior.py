"""Scale hyperprior: Balle et al., "Variational image compression with a scale hyperprior", ICLR 2018.

z = h_a(|y|),    sigma = h_s(z_hat),    p(y_hat | z_hat) = N(0, sigma^2) * U(-1/2, 1/2)
"""

from __future__ import annotations

from typing import ClassVar

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.factorized import Factorized
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Direct
from lic_lab.transforms.conv import Analysis, ScaleHyperAnalysis, ScaleHyperSynthesis, Synthesis


class ScaleHyperprior(Codec):
    """All symbols in one step, with mean zero and a scale from the side information.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 128, "M": 192},  # [paper], for the lower rates
        "small": {"N": 64, "M": 96},  # [ours]
    }

    def __init__(self, N: int, M: int):
        super().__init__(
            Analysis(N, M),
            Synthesis(N, M),
            Hyperprior(ScaleHyperAnalysis(N, M), ScaleHyperSynthesis(N, M), N),
            EntropyModel(CodingOrder((M,)), {}, Direct("hyper", mean=False), gaussian=Gaussian("centred")),
            "hyperprior",
            self.size_name(N=N, M=M),
        )

    dimensions = Factorized.dimensions
