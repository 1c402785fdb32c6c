"""MLIC's g_a and g_s: Cheng 2020's residual blocks without the attention modules (MLIC, section 3.2.1).

    x (B, 3, H, W)                                          x_hat (B, 3, H, W)
      RBS 3->w0  /2   RB                                      RB  RBU w0->w0  subpel 3x3 ->3  x2
      RBS w0->w1 /2   RB                                      RB  RBU w1->w0  x2
      RBS w1->w2 /2   RB                                      RB  RBU w2->w1  x2
      conv 3x3 w2->M /2                                       RB  RBU M->w2   x2
    y (B, M, H/16, W/16)                                    y_hat (B, M, H/16, W/16)

RB, RBS (stride, GDN) and RBU (sub-pixel, IGDN) are CompressAI's layers, with our GDN. The paper uses one width, w0 =
w1 = w2 = N = 192 [paper, Table 2]. Our `small` size narrows the costly high resolutions and adds a
`LinearPath` beside each network [ours].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import compressai.layers as theirs
import torch
from compressai.layers import ResidualBlock, conv3x3, subpel_conv3x3
from torch import Tensor, nn

from lic_lab.layers.gdn import GDN

STRIDE = 16


class ResidualBlockWithStride(theirs.ResidualBlockWithStride):
    """CompressAI's, with our GDN."""

    def __init__(self, in_ch: int, out_ch: int, stride: int = 2):
        super().__init__(in_ch, out_ch, stride)
        self.gdn = GDN(out_ch)


class ResidualBlockUpsample(theirs.ResidualBlockUpsample):
    """CompressAI's, with our inverse GDN."""

    def __init__(self, in_ch: int, out_ch: int, upsample: int = 2):
        super().__init__(in_ch, out_ch, upsample)
        self.igdn = GDN(out_ch, inverse=True)


@dataclass(frozen=True)
class KarhunenLoeve:
    """The Karhunen-Loeve transform of 16 x 16 patches, at which both linear paths start.

    Training then begins at a working block-transform codec instead of at noise, which saves the thousands of
    steps a random start spends finding the principal components. (A linear path beside the network
    follows the auxiliary transform of Li et al., "On Disentangled Training for Nonlinear
    Transform in Learned Image Compression", ICLR 2025; theirs is built of wavelets.)

    Attributes
    ----------
    basis : Tensor
        (M, 768), orthonormal rows.
    mean : Tensor
        Of the patches, (768,).
    step : float
        Quantisation step of the coefficients, in [0, 1] units: y is scaled by ``1 / step``.
    """

    basis: Tensor
    mean: Tensor
    step: float

    @classmethod
    def of(cls, patches: Tensor, M: int, step: float, n_slices: int) -> KarhunenLoeve:
        """The M principal components of patches (n, 768), flattened 3 x 16 x 16 in [0, 1]; n of some ten thousand.

        Components are dealt to the channel slices in turn, so that every slice carries like energy.
        """
        mean = patches.mean(0)
        basis = torch.linalg.eigh(torch.cov((patches - mean).T))[1].flip(1).T[:M]  # (M, 768), by falling variance
        return cls(torch.cat([basis[i::n_slices] for i in range(n_slices)]), mean, step)


class Analysis(nn.Module):
    """g_a: image (B, 3, H, W) in [0, 1] to latent y (B, M, H/16, W/16).

    Parameters
    ----------
    widths : sequence of three int
        Channels at strides 2, 4 and 8: ``(N, N, N)`` in the paper.
    M : int
        Channels of the latent.
    linear_path : bool
        Add a linear block transform beside the network [ours], see `LinearPath`.
    """

    def __init__(self, widths: Sequence[int], M: int, linear_path: bool = False):
        super().__init__()
        w0, w1, w2 = widths
        self.network = nn.Sequential(
            ResidualBlockWithStride(3, w0, stride=2),
            ResidualBlock(w0, w0),
            ResidualBlockWithStride(w0, w1, stride=2),
            ResidualBlock(w1, w1),
            ResidualBlockWithStride(w1, w2, stride=2),
            ResidualBlock(w2, w2),
            conv3x3(w2, M, stride=2),
        )
        self.linear_path = nn.Conv2d(3, M, STRIDE, stride=STRIDE) if linear_path else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)  # (B, M, H/16, W/16)
        return y if self.linear_path is None else y + self.linear_path(x)

    @torch.no_grad()
    def start(self, klt: KarhunenLoeve) -> None:
        """The linear path becomes this transform, the network is silent."""
        _fill(self.linear_path, klt.basis / klt.step, -(klt.basis @ klt.mean) / klt.step)
        _silence(self.network[-1])


class Synthesis(nn.Module):
    """g_s: latent y_hat (B, M, H/16, W/16) to image (B, 3, H, W), not clipped. See `Analysis`."""

    def __init__(self, widths: Sequence[int], M: int, linear_path: bool = False):
        super().__init__()
        w0, w1, w2 = widths
        self.network = nn.Sequential(
            ResidualBlock(M, M),
            ResidualBlockUpsample(M, w2, 2),
            ResidualBlock(w2, w2),
            ResidualBlockUpsample(w2, w1, 2),
            ResidualBlock(w1, w1),
            ResidualBlockUpsample(w1, w0, 2),
            ResidualBlock(w0, w0),
            subpel_conv3x3(w0, 3, 2),
        )
        self.linear_path = nn.ConvTranspose2d(M, 3, STRIDE, stride=STRIDE) if linear_path else None

    def forward(self, y_hat: Tensor) -> Tensor:
        x_hat: Tensor = self.network(y_hat)  # (B, 3, H, W)
        return x_hat if self.linear_path is None else x_hat + self.linear_path(y_hat)

    @torch.no_grad()
    def start(self, klt: KarhunenLoeve) -> None:
        """The linear path becomes the inverse of this transform, the network is silent."""
        _fill(self.linear_path, klt.basis * klt.step, klt.mean.reshape(3, -1).mean(1))
        _silence(self.network[-1][0])


def _fill(linear_path: nn.Conv2d | nn.ConvTranspose2d | None, rows: Tensor, bias: Tensor) -> None:
    if linear_path is None:
        raise ValueError("there is no linear path to start: create the transform with linear_path=True")
    linear_path.weight.copy_(rows.view_as(linear_path.weight))
    linear_path.bias.copy_(bias)


def _silence(layer: Any) -> None:
    layer.weight.zero_()
    layer.bias.zero_()
