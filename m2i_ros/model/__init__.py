"""What is known of the patient's vessels before the intervention: the model, its files, its centreline."""

from m2i_ros.model.errors import ModelError
from m2i_ros.model.files import load_model, save_model
from m2i_ros.model.vessel_model import Centreline, VesselModel

__all__ = ['Centreline', 'ModelError', 'VesselModel', 'extract_centreline', 'load_model', 'save_model']


def __getattr__(name):  # numba's compiled loops are loaded when first wanted: a node that reads an .npz needs none
    if name == 'extract_centreline':
        from m2i_ros.model.centreline import extract_centreline

        return extract_centreline
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
