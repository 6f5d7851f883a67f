"""What a test needs of torch, with the reason why it skips where that is missing."""

import pytest
import torch

from pelk_mm.utils.compat import HAS_LIBRARY

#: Ops of ``torch.library``, through which torch.compile and vectors of cotangents go.
library = pytest.mark.skipif(not HAS_LIBRARY, reason='needs torch 2.5: ops that torch.compile can take')
#: float16 autocast and products on a CPU, and loss scaling there.
float16_on_cpu = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='needs torch 2.3: float16 and loss scaling on a CPU'
)
