"""The classical convolutional transforms of Balle 2018, Minnen 2018, Minnen and Singh 2020, and Qian 2021 (with GSDN).

    x (B, 3, H, W)                                 x_hat (B, 3, H, W)
      conv 5x5 3->N /2   GDN                         deconv 5x5 N->3 x2
      conv 5x5 N->N /2   GDN                         deconv 5x5 N->N x2   IGDN
      conv 5x5 N->N /2   GDN                         deconv 5x5 N->N x2   IGDN
      conv 5x5 N->M /2                               deconv 5x5 M->N x2   IGDN
    y (B, M, H/16, W/16)                           y_hat (B, M, H/16, W/16)

Layers stand at the same indices as in CompressAI's models. Hyper synthesis that gives two parameters puts log sigma's
half first and mu's second, as CompressAI does. Where the papers end h_s with a non-negative scale, ours ends with its
logarithm [ours], which `Gaussian.sigma` takes: CompressAI's weights give the same pictures and means, but not scales.
"""

from __future__ import annotations

import torch
from compressai.models.utils import conv, deconv
from torch import Tensor, nn

from lic_lab.layers.gdn import GDN


class Analysis(nn.Sequential):
    """g_a: image (B, 3, H, W) in [0, 1] to latent y (B, M, H/16, W/16)."""

    def __init__(self, N: int, M: int, norm: type[GDN] = GDN):
        super().__init__(conv(3, N), norm(N), conv(N, N), norm(N), conv(N, N), norm(N), conv(N, M))


class Synthesis(nn.Sequential):
    """g_s: latent y_hat (B, M, H/16, W/16) to image (B, 3, H, W), not clipped."""

    def __init__(self, N: int, M: int, norm: type[GDN] = GDN):
        super().__init__(
            deconv(M, N),
            norm(N, inverse=True),
            deconv(N, N),
            norm(N, inverse=True),
            deconv(N, N),
            norm(N, inverse=True),
            deconv(N, 3),
        )


class ScaleHyperAnalysis(nn.Sequential):
    """h_a of Balle 2018: |y| (B, M, h, w) to z (B, N, h/4, w/4); only magnitudes tell about scales."""

    def __init__(self, N: int, M: int):
        super().__init__(conv(M, N, kernel_size=3, stride=1), nn.ReLU(), conv(N, N), nn.ReLU(), conv(N, N))

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y.abs())


class ScaleHyperSynthesis(nn.Sequential):
    """h_s of Balle 2018: z_hat (B, N, h/4, w/4) to log sigma (B, M, h, w)."""

    def __init__(self, N: int, M: int):
        super().__init__(deconv(N, N), nn.ReLU(), deconv(N, N), nn.ReLU(), conv(N, M, kernel_size=3, stride=1))


class MeanScaleHyperAnalysis(nn.Sequential):
    """h_a of Minnen 2018: y (B, M, h, w) to z (B, N, h/4, w/4)."""

    def __init__(self, N: int, M: int):
        super().__init__(conv(M, N, kernel_size=3, stride=1), nn.LeakyReLU(), conv(N, N), nn.LeakyReLU(), conv(N, N))


class MeanScaleHyperSynthesis(nn.Sequential):
    """h_s of Minnen 2018: z_hat (B, N, h/4, w/4) to Phi_h (B, 2M, h, w)."""

    def __init__(self, N: int, M: int):
        super().__init__(
            deconv(N, M),
            nn.LeakyReLU(),
            deconv(M, M * 3 // 2),
            nn.LeakyReLU(),
            conv(M * 3 // 2, 2 * M, kernel_size=3, stride=1),
        )


class ReferenceHyperSynthesis(nn.Sequential):
    """h_s of Qian 2021: z_hat (B, N, h/4, w/4) to Phi_h (B, 2M, h, w), of width N [paper, appendix Table 1]."""

    def __init__(self, N: int, M: int):
        last = conv(N, 2 * M, kernel_size=3, stride=1)
        super().__init__(deconv(N, N), nn.LeakyReLU(), deconv(N, N), nn.LeakyReLU(), last)


class CharmHyperAnalysis(nn.Sequential):
    """h_a of Minnen and Singh 2020: y (B, M, h, w) to z (B, N, h/4, w/4), widths 320, 256, 192 [released code]."""

    def __init__(self, N: int, M: int):
        between = (N + M) // 2
        super().__init__(conv(M, M, kernel_size=3, stride=1), nn.ReLU(), conv(M, between), nn.ReLU(), conv(between, N))


class CharmHyperSynthesis(nn.Module):
    """h_s of Minnen and Singh 2020: two networks, for scales and for means, 192, 256, 320 [released code].

    Their outputs (B, 2M, h, w) are features, not parameters yet; hence the ReLU at the end.
    """

    def __init__(self, N: int, M: int):
        super().__init__()
        between = (N + M) // 2

        def network() -> nn.Sequential:
            last = conv(between, M, kernel_size=3, stride=1)
            return nn.Sequential(deconv(N, N), nn.ReLU(), deconv(N, between), nn.ReLU(), last, nn.ReLU())

        self.scale, self.mean = network(), network()

    def forward(self, z_hat: Tensor) -> Tensor:
        return torch.cat((self.scale(z_hat), self.mean(z_hat)), 1)
