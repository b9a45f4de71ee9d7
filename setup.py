"""What colcon and pip install; name, version and dependencies are in pyproject.toml."""

from glob import glob

from setuptools import find_packages
from setuptools import setup

PACKAGE = 'nightseg_ros'
SHARE = f'share/{PACKAGE}'

setup(
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['evaluation/templates/*.j2']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml']),
        (f'{SHARE}/launch', glob('launch/*.launch.py')),
        (f'{SHARE}/config', glob('config/*')),
        (f'{SHARE}/models', glob('models/released/*')),
    ],
    zip_safe=False,
)
