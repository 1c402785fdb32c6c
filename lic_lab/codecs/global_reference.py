"""Qian et al., "Learning accurate entropy model with global reference for image compression", ICLR 2021.

    phi_l = g_cm(y_hat_{<i})                              masked 5 x 5 convolution over the raster past
    phi_r = S_i U_i g_ref(y_hat around j*)                the most similar decoded position, Eq. 4 and Fig. 5
    psi   = h_s(z_hat)

    (mu_1, sigma_1) = local,   (mu_2, sigma_2) = + reference,   (mu_3, sigma_3) = + hyperprior

Coded is the third [paper], or the mixture of the three [released code]. The transforms have GSDN (Eq. 5) and IGSDN
(Eq. 6) for GDN. Trained on 0.3 R_1 + 0.3 R_2 + 0.4 R_3, then 0.1 : 0.1 : 0.8 (section 5.1;
`lic_lab.training.global_reference`). Symbols are plainly rounded, so that training needs no loop.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lic_lab.codecs import shared
from lic_lab.codecs.codec import Codec
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.local import RasterContext
from lic_lab.entropy.contexts.reference import RasterReference
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.mixture import GaussianMixture
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Progressive
from lic_lab.layers.gsdn import GSDN, to_gsdn
from lic_lab.transforms import conv, residual
from lic_lab.transforms.hyper import HyperAnalysis, HyperSynthesis

KERNEL, REFERENCE_KERNEL = 5, 3  # [paper, appendix Table 1]


class GlobalReference(Codec):
    """Local context, global reference and hyperprior, ensembled in three stages.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y.
    hidden : int
        Width of the parameter networks.
    mixture : bool
        Whether the three stages are mixed, as in the authors' code, or the third is coded, as in the paper.
    residual_transform : bool
        True for `small` [ours]: transforms and hyperprior as the shared latent has them, whose trained GDN weights are
        the first stage of its training. False for the paper's convolutions.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 192, "M": 384, "hidden": 1152, "mixture": False, "residual_transform": False},  # [paper]
        "released": {"N": 192, "M": 384, "hidden": 1152, "mixture": True, "residual_transform": False},
        "small": {"N": shared.N, "M": shared.M, "hidden": 256, "mixture": True, "residual_transform": True},  # [ours]
    }

    g_a: residual.Analysis | conv.Analysis
    g_s: residual.Synthesis | conv.Synthesis
    hyperprior: Hyperprior
    entropy: EntropyModel

    def __init__(self, N: int, M: int, hidden: int, mixture: bool = False, residual_transform: bool = False):
        order = CodingOrder((M,), pattern="wavefront", kernel=KERNEL)
        g_ep = Progressive({"local": M, "reference": M, "hyper": 2 * M}, M, (hidden, hidden), mixture)
        contexts: dict[str, dict[str, Context]] = {
            "local": {"raster": RasterContext(order, M, KERNEL)},
            "reference": {"raster": RasterReference(order, M, REFERENCE_KERNEL)},
        }
        g_a: residual.Analysis | conv.Analysis
        g_s: residual.Synthesis | conv.Synthesis
        if residual_transform:
            g_a = residual.Analysis(shared.WIDTHS, M, linear_path=True)
            g_s = residual.Synthesis(shared.WIDTHS, M, linear_path=True)
            hyperprior = Hyperprior(HyperAnalysis(M, N, shared.Z), HyperSynthesis(shared.Z, N, 2 * M), shared.Z)
            to_gsdn(g_a)
            to_gsdn(g_s)
        else:
            g_a, g_s = conv.Analysis(N, M, GSDN), conv.Synthesis(N, M, GSDN)
            hyperprior = Hyperprior(conv.MeanScaleHyperAnalysis(N, M), conv.ReferenceHyperSynthesis(N, M), N)
        super().__init__(
            g_a,
            g_s,
            hyperprior,
            EntropyModel(order, contexts, g_ep, gaussian=GaussianMixture() if mixture else Gaussian("plain")),
            "global-reference",
            self.size_name(N=N, M=M, hidden=hidden, mixture=mixture, residual_transform=residual_transform),
        )

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        """N, M and the rest, off the first and last layers' weights."""
        hidden, M = state_dict["entropy.g_ep.nets.0.0.weight"].shape[:2]
        return {
            "N": len(state_dict["hyperprior.h_a.0.weight"]),
            "M": M,
            "hidden": hidden,
            "mixture": len(state_dict["entropy.g_ep.nets.0.4.weight"]) == 3 * M,
            "residual_transform": "g_a.linear_path.weight" in state_dict,
        }
