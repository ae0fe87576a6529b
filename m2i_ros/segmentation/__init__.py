"""From a fluoroscopy picture to its vessels: the deep residual U-Net and what runs it."""

from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.contrast import Contrast, ContrastEstimator
from m2i_ros.segmentation.segmenter import Segmenter
from m2i_ros.segmentation.vessel_mask import VesselMask
from m2i_ros.segmentation.weights import WeightsError

__all__ = ['Contrast', 'ContrastEstimator', 'Segmenter', 'VesselMask', 'WeightsError', 'valid_area']
