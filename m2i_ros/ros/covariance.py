"""The covariance of a geometry_msgs/PoseWithCovariance."""

import numpy as np


def covariance_from_list(values):
    """Return the (6, 6) covariance of a geometry_msgs/PoseWithCovariance, or None where it states none.

    None: all zeros, as publishers send who do not know it, or only partly filled, as RViz does for a pose in a plane.
    Raises ValueError where the values are not finite.
    """
    covariance = np.asarray(values, dtype=float).reshape(6, 6)
    if not np.isfinite(covariance).all():
        raise ValueError('the covariance is not finite')
    covariance = (covariance + covariance.T) / 2
    return covariance if np.linalg.eigvalsh(covariance)[0] > 0 else None
