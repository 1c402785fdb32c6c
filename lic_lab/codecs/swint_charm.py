"""SwinT-ChARM: Zhu, Yang, Cohen, "Transformer-based transform coding", ICLR 2022.

Swin transforms for the convolutions of Minnen and Singh's ChARM (`charm`), whose slices stay convolutional:

    (mu^i, sigma^i) = convolutions of (h_s(z_hat)^i, y_hat^{<i})        the first `support` slices
    y_hat^i = round(y^i - mu^i) + mu^i

Dimensions are those of Ghorbel et al. 2023, Table IV, which has 5 support slices and neither refinement nor, for a
slice, the hyperprior's features of others [released code of theirs]. Zhu et al. have 10 support slices.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from lic_lab.codecs.codec import Codec
from lic_lab.entropy.contexts.channel import SliceNetwork, SliceTransforms, convolutions
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Direct
from lic_lab.transforms.swin import Analysis, HyperAnalysis, HyperSynthesis, Synthesis

S = 32  # channels of a slice, and of a head [paper]
WIDTHS = (0.4, 0.6, 0.8, 1)  # of y's width: 128, 192, 256 and 320 [paper, Table I]
HYPER = 0.6  # 192 [paper, Table I]
DEPTHS = (2, 2, 6, 2)  # [paper, Table I]
FILTERS = (3, 3)  # of z's distributions, the default of TensorFlow Compression [released code]


def heads(count: float) -> int:
    """Channels of this many heads, in whole ones."""
    return S * max(1, round(count))


class SwinTCharm(Codec):
    """Swin transforms, and channel slices in turn.

    Parameters
    ----------
    slices : int
        Of 32 channels. The widths of the transforms are in proportion, in whole heads [ours].
    support : int
        Slices that a later one reads, at most.
    """

    NAME: ClassVar[str] = "swint-charm"
    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"slices": 10, "support": 5},  # [Ghorbel et al., Table IV]
        "zhu2022": {"slices": 10, "support": 10},  # [paper]
        "small": {"slices": 3, "support": 3},  # [ours]
    }

    def __init__(self, slices: int, support: int):
        order = CodingOrder((S,) * slices, in_turn=True)
        M, N = S * slices, heads(HYPER * slices)
        g_a, g_s, h_a, h_s = self.transforms(M, N)
        super().__init__(
            g_a,
            g_s,
            Hyperprior(h_a, h_s, N, FILTERS),
            EntropyModel(
                order,
                {"channel": {"transforms": SliceTransforms(order, self.network(), support=support)}},
                Direct(
                    "channel"
                ),  # log sigma itself; the authors' code has an index on CompressAI's scale of it [ours]
                gaussian=Gaussian("centred"),
            ),
            self.NAME,
            self.size_name(slices=slices, support=support),
        )

    @staticmethod
    def transforms(M: int, N: int) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """g_a, g_s, h_a and h_s, for y of M and z of N channels."""
        widths = [heads(share * M / S) for share in WIDTHS]
        return Analysis(widths, DEPTHS), Synthesis(widths, DEPTHS), HyperAnalysis(M, N), HyperSynthesis(N, 2 * M)

    @staticmethod
    def network() -> SliceNetwork:
        """Of a slice: 3 x 3 convolutions whose widths grow with it [logs of the authors of Ghorbel et al.]."""
        return convolutions(lambda i: (max(64, 64 * (i + 2) // 3), max(32, 32 * (i + 2) // 3)), (3, 3, 3))

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        nets = "entropy.contexts.channel.transforms.mean"
        last = max(int(key.removeprefix(f"{nets}.").split(".")[0]) for key in state_dict if key.startswith(nets))
        first = next(
            value for key, value in state_dict.items() if key.startswith(f"{nets}.{last}.") and "weight" in key
        )
        reads = first.shape[1] if first.dim() == 4 else len(first)  # a convolution, or the norm of a Swin block
        support = reads // S - 1  # beside the hyperprior's features
        return {"slices": last + 1, "support": support if support < last else last + 1}
