"""Joint autoregressive and hierarchical priors: Minnen, Balle, Toderici, NeurIPS 2018.

    psi = h_s(z_hat),    phi_i = g_cm(y_hat_{<i})     masked 5 x 5 convolution over the raster past
    mu_i, sigma_i = g_ep(psi, phi_i)                  1 x 1 convolutions 640-512-2M for M = 192

The raster is coded in wavefronts (`entropy.order`): the same symbols with the same probabilities, in W + 3(H - 1)
steps instead of W H.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.factorized import Factorized
from lic_lab.entropy.contexts.local import RasterContext
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Parameters
from lic_lab.transforms.conv import Analysis, MeanScaleHyperAnalysis, MeanScaleHyperSynthesis, Synthesis

KERNEL = 5  # [paper, section 2]


class JointAutoregressive(Codec):
    """Every symbol after its raster past, its mean and scale from that past and the side information.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 192, "M": 192},  # [paper, Table 1], for the lower rates; CompressAI's mbt2018, qualities 1 to 4
        "small": {"N": 64, "M": 96},  # [ours]
    }

    def __init__(self, N: int, M: int):
        order = CodingOrder((M,), pattern="wavefront", kernel=KERNEL)
        g_ep = Parameters(
            order,
            {"raster": {"hyper": (2 * M,), "local": (2 * M,)}},
            hidden=(M * 10 // 3, M * 8 // 3),  # 640, 512 [paper, Table 1]
            activation=nn.LeakyReLU,
        )
        raster = {"local": {"raster": RasterContext(order, 2 * M, KERNEL)}}
        super().__init__(
            Analysis(N, M),
            Synthesis(N, M),
            Hyperprior(MeanScaleHyperAnalysis(N, M), MeanScaleHyperSynthesis(N, M), N),
            # plain rounding [paper]: y_hat = round(y), so that training and estimates need no sequential loop
            EntropyModel(order, raster, g_ep, gaussian=Gaussian("plain")),
            "joint-autoregressive",
            self.size_name(N=N, M=M),
        )

    dimensions = Factorized.dimensions
