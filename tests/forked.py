"""Trainings in processes of their own, forked from one process that has imported everything, which costs seconds."""

import multiprocessing
import os
import socket
import sys
from multiprocessing import forkserver
from pathlib import Path

from children import LIMIT, default_interrupt

HERE = Path(__file__).parent
PRELOADED = ['forked', 'exact_task', 'pelk_mm.apis.train', 'mmengine.runner', 'torch.utils.collect_env']
PRELOADED += ['torchvision', 'torch._dynamo', 'matplotlib.pyplot', 'matplotlib.backends.backend_agg', 'cv2']


_reserved = []


def free_port():
    """A port that no other worker is given before this process ends, though neither listens on it yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(('', 0))
            port = probe.getsockname()[1]
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f'\0pelk_mm tests: port {port}')  # names without a file end with the process that holds them
        except OSError:
            mark.close()
            continue
        _reserved.append(mark)
        return port


def context():
    """Start the process to fork from, once for all tests: it sees no GPU and has one thread."""
    made = multiprocessing.get_context('forkserver')
    made.set_forkserver_preload(PRELOADED)
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    ours = {'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PELK_MM_ALLOW_CPU': '1'}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    with default_interrupt():
        forkserver.ensure_running()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    return made


class Training:
    """``train(**arguments)`` in one process, or in several that meet through gloo; output goes to ``log``.

    ``before`` is a function of a test module, called first in every process. None outlives the test: conftest.py sees
    to that by :meth:`end_all`.
    """

    running = []

    def __init__(self, log, arguments, processes=1, before=None):
        port, made = free_port(), context()
        self.log = log
        self.processes = [
            made.Process(target=_train, args=(Path.cwd(), log, arguments, rank, processes, port, before))
            for rank in range(processes)
        ]
        self.running.append(self)
        for process in self.processes:
            process.start()

    @classmethod
    def end_all(cls):
        """Kill those of a test that has failed, or that did not wait for them."""
        while cls.running:
            training = cls.running.pop()
            training.kill()
            for process in training.processes:
                if process.pid is not None:
                    process.join()

    def poll(self):
        codes = [process.exitcode for process in self.processes]
        return None if None in codes else max(codes, key=abs)

    def kill(self):
        from pelk_mm.analysis.resume.kill_and_compare import kill_tree

        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                kill_tree(process.pid)  # with the workers that load its data

    def send_signal(self, number):
        for process in self.processes:
            os.kill(process.pid, number)

    def wait(self, timeout=LIMIT):
        for process in self.processes:
            process.join(timeout)
            if process.exitcode != 0:  # the others would wait for it
                self.kill()
        for process in self.processes:
            process.join()
        return self.poll()


def leave_configs_unformatted(set_attribute):
    """Write configs as they are: formatting the text for each checkpoint takes longer than these trainings do.

    ``set_attribute`` is ``setattr``, or that of a fixture that undoes it.
    """
    from mmengine.config import Config

    set_attribute(Config, 'pretty_text', property(lambda self: f'config = {self.to_dict()!r}'))


def forget_earlier_runs():
    """Let the next run in this process begin as in a new one: mmengine names what runs share by the second."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    # A toolbox's visualizer keeps its instances in its own class.
    for kind in (MessageHub, MMLogger, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


def _train(folder, log, arguments, rank, processes, port, before):
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        arguments = {**arguments, 'launcher': 'pytorch'}
    from pelk_mm.apis.train import train
    from pelk_mm.utils.cli import run_tool

    leave_configs_unformatted(setattr)

    def main():
        if before is not None:
            before()
        train(**arguments)

    sys.exit(run_tool(main))
