"""A patient's CT as an X-ray system sees it: path lengths through tissue, bone and the lumen of the vessels."""

import numpy as np
from numba import njit, prange
from scipy import ndimage

from m2i_ros.model.errors import ModelError

# Denser than the density of water at the first it counts as a share of cortical bone, which has the second.
SOFT_HU, CORTICAL_HU = 100.0, 1600.0
# Blood without contrast.
BLOOD_HU = 45.0
# What the contrast of the CT reaches beyond the labels: partial volume, metres.
_HALO = 0.002
# Length of a step along a ray, in the smallest side of a voxel.
_STEP = 1.4
# Metres of water on a ray above the CT's uppermost slice and below its lowest that do no harm.
_BEYOND = 0.03


class CTPatient:
    """What rays meet on their way through a CT: `path_lengths(T_image_patient, camera)`.

    ct: `Volume` of HU. labels: `Volume` of the same grid, 0 where no contrast is in the CT: what has a label was full
    of contrast and is blood here. lumen: the labels of the vessels that X-ray contrast fills; None: all of them.
    Raises ModelError where the grids differ, a label is not there, or the axes are not known.

    points: (N, 3) some points of the lumen, metres, in LPS, the axes of the patient.
    """

    def __init__(self, ct, labels, lumen=None):
        if ct.data.shape != labels.data.shape or not np.allclose(ct.affine, labels.affine, atol=0.01):
            raise ModelError(
                f'{labels.name}: its grid is not that of {ct.name}: {labels.data.shape} and {ct.data.shape} voxels, or '
                'elsewhere: give labels made on this CT'
            )
        if ct.axes == 'native':
            raise ModelError(
                f'{ct.name}: the file does not say what its axes mean: give NIfTI, MetaImage or NRRD in LPS'
            )
        present = np.unique(labels.data[labels.data != 0])
        missing = [label for label in lumen or () if label not in present]
        if missing or not len(present):
            held = ', '.join(f'{value:g}' for value in present[:20]) or 'nothing'
            wanted = f'label {missing[0]:g}' if missing else 'a label'
            raise ModelError(f'{labels.name}: {wanted} is not in it: it holds {held}')
        turned = np.diag([-1.0, -1.0, 1.0, 1.0]) if ct.axes == 'ras' else np.eye(4)
        self._T_patient_voxel = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ turned @ ct.affine
        self._side = np.linalg.norm(self._T_patient_voxel[:3, :3], axis=0)
        held = labels.data != 0
        reach = np.ceil(_HALO / self._side).astype(int)
        near = ndimage.maximum_filter(held, size=2 * reach + 1)
        hu = np.nan_to_num(ct.data.astype(np.float32), nan=-1000.0)
        hu[near & (hu > BLOOD_HU)] = BLOOD_HU
        filled = np.isin(labels.data, lumen) if lumen else held
        # One after the other for each voxel, for they are read together.
        self._parts = np.empty((*hu.shape, 3), np.float32)
        self._parts[..., 0] = np.clip(1 + np.minimum(hu, SOFT_HU) / 1000, 0, None)
        self._parts[..., 1] = np.clip((hu - SOFT_HU) / (CORTICAL_HU - SOFT_HU), 0, 2)
        self._parts[..., 2] = filled
        # The voxels' axis that leads from feet to head.
        self._long = int(np.argmax(np.abs(self._T_patient_voxel[2, :3] / self._side)))
        voxels = np.argwhere(filled)[:: max(1, np.count_nonzero(filled) // 5000)]
        self.points = voxels @ self._T_patient_voxel[:3, :3].T + self._T_patient_voxel[:3, 3]
        ends = np.zeros((2, 3))
        ends[1, self._long] = hu.shape[self._long] - 1
        self._feet, self._head = sorted(ends @ self._T_patient_voxel[2, :3] + self._T_patient_voxel[2, 3])

    def focus(self, rng, field):
        """Return a point (3,), metres: one of the vessels, moved along the patient until a picture of it, `field`
        metres high, lies as far within the slices as they reach."""
        x, y, z = self.points[rng.integers(len(self.points))]
        low, high = self._feet + field / 2, self._head - field / 2
        return np.array([x, y, np.clip(z, low, high) if low < high else (low + high) / 2])

    def path_lengths(self, T_image_patient, camera):
        """Return tissue, bone and lumen (H, W) float32 each: metres of the pixel's ray, of water and of cortical bone;
        and which rows of the picture, (H, 1) bool, are known.

        T_image_patient: (4, 4), metres. camera: of the picture, in which the patient stands upright; both signs of fx.
        Beside the CT there is air. Above and below it goes on as its last slice; rows are not known from where 3 cm of
        that lie in a ray, for a collimator's straight blades.
        """
        T_voxel_image = np.linalg.inv(T_image_patient @ self._T_patient_voxel)
        rays = camera.ray(np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1))
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        ways = rays @ T_voxel_image[:3, :3].T
        step = _STEP * self._side.min()
        tissue, bone, lumen, beyond = _march(self._parts, T_voxel_image[:3, 3], ways, step, self._long)
        unknown = np.flatnonzero((beyond > _BEYOND).any(axis=1))
        row, middle = np.arange(camera.height), camera.height / 2
        top = unknown[unknown < middle].max(initial=-1)
        bottom = unknown[unknown >= middle].min(initial=camera.height)
        return tissue, bone, lumen, ((row > top) & (row < bottom))[:, None]


@njit(cache=True, nogil=True, parallel=True, fastmath=True)
def _march(parts, source, rays, step, endless):
    """Return the integrals (4, H, W) of parts (X, Y, Z, 3) along rays (H, W, 3) from the source (3,), in voxels; the
    fourth is of the first part beyond the ends.

    rays: voxels a metre. step: metres. endless: the axis along which the parts go on as at their ends.
    """
    height, width = rays.shape[:2]
    out = np.zeros((4, height, width), np.float32)
    last = np.array(parts.shape[:3]) - 1
    for row in prange(height):
        for column in range(width):
            ray = rays[row, column]
            begin, end = 0.0, 1e3
            for k in range(3):
                if k == endless:
                    continue
                if abs(ray[k]) < 1e-9:
                    if not 0 <= source[k] <= last[k]:
                        end = 0.0
                    continue
                one, other = -source[k] / ray[k], (last[k] - source[k]) / ray[k]
                begin, end = max(begin, min(one, other)), min(end, max(one, other))
            count = int((end - begin) / step) if end > begin else 0
            tissue, bone, lumen, beyond = 0.0, 0.0, 0.0, 0.0
            at = np.empty(3)
            for i in range(count):
                along = begin + (i + 0.5) * (end - begin) / count
                for k in range(3):
                    at[k] = min(max(source[k] + along * ray[k], 0.0), last[k] - 1e-3)
                a, b, c = int(at[0]), int(at[1]), int(at[2])
                x, y, z = at[0] - a, at[1] - b, at[2] - c
                before = tissue
                for p in range(2):
                    for q in range(2):
                        weight = (x if p else 1 - x) * (y if q else 1 - y)
                        near, far = parts[a + p, b + q, c], parts[a + p, b + q, c + 1]
                        tissue += weight * ((1 - z) * near[0] + z * far[0])
                        bone += weight * ((1 - z) * near[1] + z * far[1])
                        lumen += weight * ((1 - z) * near[2] + z * far[2])
                if not 0 <= source[endless] + along * ray[endless] <= last[endless]:
                    beyond += tissue - before
            if count:
                length = (end - begin) / count
                out[0, row, column], out[1, row, column] = tissue * length, bone * length
                out[2, row, column], out[3, row, column] = lumen * length, beyond * length
    return out
