"""AICT: Ghorbel, Hamidouche, Morin, "AICT: An adaptive image compression transformer", ICIP 2023.

ICT (`ict`) between a resampler and filters (section III-B, `transforms.resize`):

    s = r_s(x),    x_d = a_d(x) at s H x s W,    x_hat = a_u(x_hat_d at H x W)

The picture is really made smaller: the codec sees fewer pixels and codes fewer symbols. The released code resamples
within a canvas of the old size. At s = 1 all of it is left out, and AICT is ICT.
"""

from __future__ import annotations

from typing import ClassVar

from lic_lab.codecs.ict import ICT
from lic_lab.transforms.resize import Resizing


class AICT(ICT):
    """ICT at a size that a network predicts for each picture; `resized` gives or searches another."""

    NAME: ClassVar[str] = "aict"

    def __init__(self, slices: int, support: int):
        super().__init__(slices, support)
        self.resizing = Resizing()
        self.scale = "predicted"
