import numpy as np
import pytest

from m2i_ros.model.surface import areas_and_normals, surface_samples
from m2i_ros.model.wall import make_wall, middles


def prism(section, length, rings):
    """Return vertices and faces of the sides of a prism along z over a polygon (n, 2)."""
    n = len(section)
    vertices = np.concatenate([np.column_stack([section, np.full(n, z)]) for z in np.linspace(0, length, rings)])
    k = np.arange(n)
    a, b = (np.concatenate([r * n + (k + shift) % n for r in range(rings - 1)]) for shift in (0, 1))
    return vertices, np.vstack([np.stack([a, b, b + n], 1), np.stack([a, b + n, a + n], 1)])


# A trapezoid 4 and 2 mm wide, 3 mm high: its largest circle touches base and sides from 1.44 mm above the base, its
# centroid lies at 1.33 mm. Of few faces it stands for a round vessel; of many it is a vessel of that shape.
@pytest.mark.parametrize(('parts', 'rings', 'height'), [(1, 2, 4e-3 / 3), (20, 100, 6e-3 / (1 + np.sqrt(10)))])
def test_the_middle_between_few_large_faces_is_the_centroid_of_their_section(parts, rings, height):
    corners = np.array([[-2e-3, 0], [2e-3, 0], [1e-3, 3e-3], [-1e-3, 3e-3]])
    sides = zip(corners, np.roll(corners, -1, axis=0))
    section = np.concatenate([np.linspace(p, q, parts, endpoint=False) for p, q in sides])
    vertices, faces = prism(section, 0.02, rings)
    points, face = surface_samples(vertices, faces, 0.1e-3)
    area, _ = areas_and_normals(vertices, faces)
    wall = make_wall(points, np.sqrt(area[face]), 0.5e-3)
    axes = [np.eye(3)[k : k + 1] for k in (2, 0, 1)]
    middle = middles(np.array([[0.3e-3, 1.1e-3, 0.01]]), *axes, wall, 0.5)[0]
    # 0.05 mm: half of what lies between both; a section's sector is as deep as its nearest wall
    assert np.abs(middle - (0, height, 0.01)).max() < 0.05e-3
