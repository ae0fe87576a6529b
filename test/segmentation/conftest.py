import pytest
import torch

from m2i_ros.segmentation.network import DeepResidualUNet
from m2i_ros.training.data import SHOWN
from m2i_ros.training.export import export


@pytest.fixture(scope='session')
def exported(tmp_path_factory):
    """Folder and name of small weights that were never trained, exported like trained ones."""
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(3)
    network = DeepResidualUNet(width=4, stem=2, norm='group')
    # Biases and norms as they might be learned, so that nothing is hidden behind zeros and ones.
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    settings = {'network': network.config, 'data': {'real': ()}}
    state = {
        'step': 7,
        'validation': {'threshold': 0.35},
        'settings': settings,
        'shown': SHOWN,
        'average': network.state_dict(),
    }
    torch.save(state, folder / 'checkpoint.pt')
    export(folder / 'checkpoint.pt', 'small', folder, 'Never trained: for tests.')
    return folder / 'small'
