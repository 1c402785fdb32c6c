"""Layers. With them CompressAI is imported, whose dependencies call what torch announces to retire: this is not told.

Whatever imports CompressAI imports this before it, so that a user's first line of output is no warning of others.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    import compressai.models  # noqa: F401
