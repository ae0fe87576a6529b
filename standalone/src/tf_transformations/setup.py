from setuptools import find_packages, setup

setup(
    name='tf_transformations',
    version='0.0.1',
    packages=find_packages(),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/tf_transformations']),
        ('share/tf_transformations', ['package.xml']),
    ],
)
