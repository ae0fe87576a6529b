from glob import glob

from setuptools import find_packages, setup

package_name = 'm2i_ros'

EXECUTABLES = {
    'pipeline_node': 'm2i_ros.nodes.pipeline_node',
    'segmentation_node': 'm2i_ros.nodes.segmentation_node',
    'registration_node': 'm2i_ros.nodes.registration_node',
    'source_node': 'm2i_ros.nodes.source_node',
    'monitor_node': 'm2i_ros.nodes.monitor_node',
    'replay': 'm2i_ros.replay',
    'prepare_model': 'm2i_ros.model.prepare',
    'train': 'm2i_ros.training.train',
    'evaluate': 'm2i_ros.evaluation.evaluate',
    'benchmark': 'm2i_ros.evaluation.benchmark',
}

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(include=[package_name, package_name + '.*']),
    package_data={
        package_name: ['weights/*', 'weights/matching/*', 'evaluation/*.jinja', 'registration/*.json'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
        ('share/' + package_name, ['package.xml']),
        ('share/' + package_name + '/launch', glob('launch/*.launch.py')),
        ('share/' + package_name + '/config', glob('config/*')),
    ],
    install_requires=['setuptools'],
    extras_require={'drr': ['nanodrr>=0.1.7']},
    zip_safe=False,
    maintainer='m2i_ros maintainers',
    maintainer_email='maintainers@m2i-ros.example.com',
    description='Registers a 3D vessel model to live fluoroscopy and broadcasts the result as TF.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [f'{name} = {module}:main' for name, module in EXECUTABLES.items()],
    },
)
