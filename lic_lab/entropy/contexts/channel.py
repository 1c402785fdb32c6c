"""Channel context g_ch: three 3 x 3 convolutions over the decoded slices (MLIC, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen


class ChannelContext(Context):
    """Phi_ch^i = g_ch(y_hat^{<i}); slice 0 has none.

    Parameters
    ----------
    order : CodingOrder
    hidden : sequence of two int
        Widths of the first two convolutions: (192, 128) [released code of MLIC++].
    expand : int
        Features per channel of the slice: 4 [released code].
    support : int or None
        Use at most this many of the first slices (Minnen and Singh 2020 use 5 of 10); None for all.
    """

    def __init__(
        self, order: CodingOrder, hidden: Sequence[int] = (192, 128), expand: int = 4, support: int | None = None
    ):
        super().__init__()
        self.order, self.expand, self.support = order, expand, support
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(self._supported(i), hidden[0], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(hidden[0], hidden[1], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(hidden[1], self.width(i), 3, padding=1),
            )
            for i in range(1, len(order.slices))
        )

    def _supported(self, i: int) -> int:
        return sum(self.order.slices[:i][: self.support])

    def width(self, i: int) -> int:
        return 0 if i == 0 else self.expand * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        net = self.nets[i - 1]
        return step.take(seen.once_per_slice(self, i, lambda: net(seen.before(i)[:, : self._supported(i)])))
