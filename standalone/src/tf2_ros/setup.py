from setuptools import find_packages, setup

setup(
    name='tf2_ros',
    version='0.0.1',
    packages=find_packages(),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/tf2_ros']),
        ('share/tf2_ros', ['package.xml']),
    ],
)
