"""MLIC's g_a and g_s: Cheng 2020's residual blocks without the attention modules (MLIC, section 3.2.1).

    x (B, 3, H, W)                                          x_hat (B, 3, H, W)
      RBS 3->w0  /2   RB                                      subpel 3x3 w0->3  x2
      RBS w0->w1 /2   RB                                      RBU w1->w0 x2   RB
      RBS w1->w2 /2   RB                                      RBU w2->w1 x2   RB
      conv 3x3 w2->M  /2                                      RBU M->w2  x2   RB
    y (B, M, H/16, W/16)                                    y_hat (B, M, H/16, W/16)

RB, RBS (stride, GDN) and RBU (sub-pixel, IGDN) are CompressAI's layers. The paper uses one width, w0 = w1 =
w2 = N = 192 [paper, Table 2]. Our `small` size narrows the costly high resolutions and sets a linear path beside each
network [ours]: training starts at a working wavelet codec, the network silent, instead of at noise, which saves the
thousands of steps that a random start spends finding an energy-compacting transform. (After the auxiliary transform of Li
et al., "On Disentangled Training for Nonlinear Transform in Learned Image Compression", ICLR 2025.)
"""

from __future__ import annotations

from collections.abc import Sequence

from compressai.layers import (
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from torch import Tensor, nn

STRIDE = 16


class Analysis(nn.Module):
    """g_a: image (B, 3, H, W) in [0, 1] to latent y (B, M, H/16, W/16).

    Parameters
    ----------
    widths : sequence of three int
        Channels at strides 2, 4 and 8: ``(N, N, N)`` in the paper.
    M : int
        Channels of the latent.
    linear_path : Module, optional
        A linear transform of the same shape, added to the network's output [ours].
    """

    def __init__(self, widths: Sequence[int], M: int, linear_path: nn.Module | None = None):
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
        self.linear_path = linear_path

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)  # (B, M, H/16, W/16)
        return y if self.linear_path is None else y + self.linear_path(x)


class Synthesis(nn.Module):
    """g_s: latent y_hat (B, M, H/16, W/16) to image (B, 3, H, W), not clipped. See `Analysis`."""

    def __init__(self, widths: Sequence[int], M: int, linear_path: nn.Module | None = None):
        super().__init__()
        w0, w1, w2 = widths
        self.network = nn.Sequential(
            ResidualBlockUpsample(M, w2, 2),
            ResidualBlock(w2, w2),
            ResidualBlockUpsample(w2, w1, 2),
            ResidualBlock(w1, w1),
            ResidualBlockUpsample(w1, w0, 2),
            ResidualBlock(w0, w0),
            subpel_conv3x3(w0, 3, 2),
        )
        self.linear_path = linear_path

    def forward(self, y_hat: Tensor) -> Tensor:
        x_hat: Tensor = self.network(y_hat)  # (B, 3, H, W)
        return x_hat if self.linear_path is None else x_hat + self.linear_path(y_hat)
