"""What every tool imports first: outside its work, a signal ends it with one line instead of a traceback.

Standard library only, since importing torch and the toolboxes is what takes the time. It does nothing where a tool is
imported instead of run.
"""

import os
import signal
import sys


def _end(number: int, _: object) -> None:
    has_ended = getattr(sys.modules.get('pelk_mm.utils.interrupts'), 'has_ended', None)
    if has_ended is not None and has_ended():
        return  # on an earlier signal, and the tool has said so
    words = {'SIGTERM': 'terminated', 'SIGHUP': 'hung up'}  # as pelk_mm.utils.interrupts has them
    os.write(2, f'{words.get(signal.Signals(number).name, "interrupted")}\n'.encode())
    os._exit(128 + number)


_main = os.path.dirname(os.path.abspath(getattr(sys.modules['__main__'], '__file__', '/')))
if os.path.dirname(os.path.abspath(__file__)) in _main:
    for _name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
        if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, _name), _end)
