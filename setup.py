"""Metadata lives in setup.cfg; here is only what mim expects inside an installed package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MIM_FOLDERS = ('configs', 'tools')
MIM_FILES = ('model-index.yml', 'dataset-index.yml', 'README.md')  # metafiles name the README


class BuildWithMim(build_py):
    """Copies configs, tools and the model index to ``pelk_mm/.mim`` of a build, where mim looks for them.

    The copy goes to the build folder, never to the source tree; an editable install uses the checkout itself.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'pelk_mm', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        for name in MIM_FOLDERS:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
        target.mkdir(parents=True, exist_ok=True)
        for name in MIM_FILES:
            if Path(name).is_file():
                shutil.copy2(name, target / name)


setup(cmdclass={'build_py': BuildWithMim})
