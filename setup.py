"""All is said in setup.cfg but for one thing: a wheel has the folder ``configs`` inside the package."""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies ``configs`` to ``weclip_sam/configs``. An editable install goes on reading the folder where it lies."""

    def run(self):
        super().run()
        if not self.editable_mode:
            inside = Path(self.build_lib, 'weclip_sam', 'configs')
            shutil.rmtree(inside, ignore_errors=True)  # an earlier build may have left what is no more
            shutil.copytree('configs', inside, ignore=shutil.ignore_patterns('__pycache__'))


setup(cmdclass=dict(build_py=BuildWithConfigs))
