"""What colcon and pip install.

Name, version, licence, Python and commands are here because colcon reads only this file where
setuptools is older than 61 (Ubuntu 22.04, Humble), and cannot read ``requires-python`` of
pyproject.toml at all.
"""

from glob import glob
from xml.etree import ElementTree

from setuptools import find_packages
from setuptools import setup

PACKAGE = 'nightseg_ros'
SHARE = f'share/{PACKAGE}'

setup(
    name=PACKAGE,
    version=ElementTree.parse('package.xml').findtext('version'),
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    include_package_data=False,
    package_data={PACKAGE: ['evaluation/report/templates/*.j2']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml']),
        (f'{SHARE}/launch', glob('launch/*.launch.py')),
        (f'{SHARE}/config', glob('config/*')),
        (f'{SHARE}/models', glob('models/released/*')),
    ],
    entry_points={
        'console_scripts': [
            'night_seg_node = nightseg_ros.ros.night_seg_node:main',
            'build_engine = nightseg_ros.core.engine_command:main',
            'evaluate_bag = nightseg_ros.evaluation.evaluate_command:main',
            'night_seg_bag = nightseg_ros.evaluation.bag_command:main',
            'night_seg_demo = nightseg_ros.evaluation.demo:main',
        ]
    },
    zip_safe=False,
)
