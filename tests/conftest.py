import sys

import pytest


@pytest.fixture(autouse=True)
def fresh_mmengine():
    """mmengine names loggers and message hubs by the second: two runs within one would share them."""
    yield
    if 'mmengine.runner' in sys.modules:
        from mmengine.logging import MessageHub, MMLogger
        from mmengine.registry import DefaultScope
        from mmengine.visualization import Visualizer

        for kind in (MessageHub, MMLogger, DefaultScope, Visualizer):
            kind._instance_dict.clear()
