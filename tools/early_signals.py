"""What every tool imports first: until its work begins, a signal ends it with one line instead of a traceback.

Standard library only, since importing torch and the toolboxes is what takes the time. It does nothing where a tool is
imported instead of run.
"""

import os
import signal
import sys


def _end(number: int, _: object) -> None:
    os.write(2, f'{"interrupted" if number == signal.SIGINT else "terminated"}\n'.encode())
    os._exit(128 + number)


if os.path.dirname(os.path.abspath(__file__)) in os.path.abspath(getattr(sys.modules['__main__'], '__file__', '')):
    for _name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
        if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, _name), _end)
