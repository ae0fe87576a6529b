from setuptools import find_packages, setup

setup(
    name='launch',
    version='0.0.1',
    packages=find_packages(),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/launch']),
        ('share/launch', ['package.xml']),
    ],
)
