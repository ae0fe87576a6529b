"""The vessel model's centreline as the X-ray system sees it."""

import numpy as np

from m2i_ros.geometry import apply

# A point of a centreline as `vessel/centerline` gives it out: metres in the image frame, lumen radius, pixels, branch,
# metres along the branch.
CENTRELINE_POINT = np.dtype(
    [(name, '<f4') for name in ('x', 'y', 'z', 'radius', 'u', 'v')] + [('branch', '<i4'), ('arc_length', '<f4')]
)


def project_centreline(model, T_image_model, camera):
    """Return the centreline's points (N, 3), metres in the image frame, and their pixels (N, 2).

    Pixels are NaN for points at or behind the source; those outside the picture are kept.
    """
    points_image = apply(T_image_model, model.centreline.points)
    return points_image, camera.project(points_image)


def centreline_seen(centreline, T_image_model, camera):
    """Return a `Centreline` seen by `camera`, (N,) of `CENTRELINE_POINT`.

    Points at or behind the source have u = v = NaN; points beside the picture keep their pixel coordinates.
    """
    points = np.zeros(len(centreline.points), CENTRELINE_POINT)
    p_image = apply(T_image_model, centreline.points)
    points['x'], points['y'], points['z'] = p_image.T
    points['u'], points['v'] = camera.project(p_image).T
    points['radius'] = centreline.radii
    points['branch'] = centreline.branch
    points['arc_length'] = centreline.arc_length
    return points
