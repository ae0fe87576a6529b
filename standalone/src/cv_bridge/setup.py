from setuptools import find_packages, setup

setup(
    name='cv_bridge',
    version='0.0.1',
    packages=find_packages(),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/cv_bridge']),
        ('share/cv_bridge', ['package.xml']),
    ],
)
