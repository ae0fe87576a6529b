"""Where a registration may start when nobody tells: from the C-arm's angles."""

import numpy as np

from m2i_ros.geometry import rigid

# Rotations from the model's axes to the patient's LPS axes.
_R_LPS = {'lps': np.eye(3), 'ras': np.diag([-1.0, -1.0, 1.0])}


def pose_from_view(model, c_arm, isocentre=None):
    """Return the (4, 4) T_image_model of a `VesselModel` of which a point lies at the isocentre of a `CArm`.

    isocentre: (3,) that point in the model's coordinates, metres; None: the model's centroid.
    The patient lies supine, head first. Raises ValueError where the model's axes are not known.
    """
    if model.axes not in _R_LPS:
        raise ValueError(
            f'the axes of model {model.name} are "{model.axes}", so C-arm angles mean nothing to it: give its axes '
            f'(lps or ras), or the start by initialpose'
        )
    R = _R_LPS[model.axes]
    return c_arm.T_image_isocentre @ rigid(R, -R @ (model.centroid if isocentre is None else isocentre))
