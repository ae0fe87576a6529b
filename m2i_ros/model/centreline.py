"""Centreline extraction: from a lumen surface, closed or open, to a graph of points with radii.

The lumen is filled with voxels; paths of least cost, where cost falls with the distance from the wall, run from the
farthest tips to a root (after TEASAR: Sato et al., Pacific Graphics 2000). The voxels decide the topology only:
afterwards each point moves, across the vessel, to the middle between the walls of the surface itself. Where vessels
share a lumen each is followed by what is left of its own round wall.
"""

import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial import cKDTree

from m2i_ros.model.lumen import depths, fill_lumen, voxel_paths
from m2i_ros.model.polyline import arc_length, resampled, smoothed
from m2i_ros.model.surface import (
    areas_and_normals,
    find_cap,
    first_hit,
    frayed_borders,
    hemmed,
    openings,
    orient,
    surface_samples,
    unfolded,
)
from m2i_ros.model.vessel_model import Centreline
from m2i_ros.model.wall import make_wall, middles, round_middles, trace, wall_distances

SPACING = 1e-3  # metres between centreline points

_STEP_ON = 0.25  # radii, of a line led on to its vessel's end: it turns by no more than it can follow
_LED_ON = 3.0  # radii: how far, at most; a path stops 1.7 before the corner of an end
_BESIDE = np.radians([30, 60])  # from a line's direction: where the cut of an end is looked for
_DISC = 0.5  # how much the moments of such a cut may differ from a disc's, as a share
_STRAIGHT = 0.75  # radii before its end a vessel is taken to be straight
_LEFT = 90  # per cent of a frayed border's points that lie before the vessel's end
_NARROWS = 0.8  # of the radius, in a step: a ball shrinks faster where it has met the end, grows faster outside

_SHORT = 3.0  # trunk's radii: a longer path is no corner
_CORNER = 0.5  # share of a round wall that a corner does not have: the end's and one side's is less
_WALL_THERE = 0.85  # share of a round wall that makes a lumen the vessel's own: a twig takes two of its 16 sectors
_OWN_WITHIN = 6.0  # radii from its ostium: a vessel whose wall is not round by then is not to be told by it
_AHEAD = 1.5  # radii over which a vessel's direction is taken: over fewer, its points' noise turns it
_BLURRED = 4.0  # trunk's radii that a vessel is traced farther than its line says: smoothing blurs where they part
_ROUGH = 0.5  # radii: a shorter shared lumen, or a smaller jump, is a rough wall
_WIDER = 1.1  # radii: a lumen for two is wider than for one
_SLOWLY = 2.0  # radii: what is traced for less leaves at a large angle, and the trace ends on the ostium's rim
_PROLONGED = (0.5, 3.0)  # radii from an ostium: the stretch that tells where a vessel comes from, clear of the rim


def extract_centreline(vertices, faces):
    """Return the `Centreline` of the vessels that a surface bounds.

    vertices: (V, 3), metres. faces: (F, 3), any orientation. Openings are closed, by thought; those at a vessel's end
    are where it ends. A branch runs from joint to joint or end, points 1 mm apart, 0.5 mm where the vessel is thin; a
    vessel's last point lies in its opening, on its cap or, rounded, on the surface. Radii are those of the largest
    inscribed balls, caps aside.
    The result is a tree, or a forest for several components; vessels that touch may close a loop.

    Raises ValueError when no vessel is found.
    """
    faces = orient(vertices, faces)
    surface = _Surface(unfolded(vertices, faces), faces)
    paths = _paths(surface)
    if not paths:
        raise ValueError('no vessel was found: every part of the surface is about as wide as long')

    wall = surface.wall()  # by now without the caps, which bend a line that nears them
    return _joined(_without_corners(paths, wall), wall)


def _paths(surface):
    """Return lines through the middle of the surface's vessels, each from the line it leaves or the root to where the
    vessel ends, as [(points (N, 3), number of the line it leaves or -1, number of the one it meets or -1, radius of the
    opening in which another ends that it leads into too or 0)]."""
    grid, origin, step = fill_lumen(surface.closed_vertices, surface.closed_faces)
    cells = np.argwhere(grid).astype(np.int32)
    if not len(cells):
        raise ValueError('the surface encloses no volume: is it a vessel lumen?')
    index = np.full(grid.shape, -1, np.int32)
    index[tuple(cells.T)] = np.arange(len(cells), dtype=np.int32)
    points = origin + (cells + 0.5) * step
    wall = surface.closed_wall()
    depth = depths(index, cells, points, wall, step)

    paths = []
    for chain, parent, facing in voxel_paths(index, cells, depth, step):
        line = points[chain]
        if 0 <= facing < len(paths):  # on to where the other's line, which came before, ends
            line = np.vstack([line, paths[facing][0][-1]])
        # Thin vessels want closer points: a line cannot be smooth over its radius with one point in it.
        line = _centred(resampled(line, min(SPACING, 0.5 * np.median(depth[chain]))), wall)
        frayed = surface.taken_about(line[-1]) if facing < 0 <= parent else 0.0
        if facing < 0:
            line = _ended(line, wall, surface)
        if parent < 0:
            line = _ended(line[::-1], wall, surface)[::-1]
        paths.append((line, parent, facing, frayed))
    return paths


def _without_corners(paths, wall):
    """Return the paths without those that lead, from the middle of a lumen, into a corner of its end or between folds
    of a frayed one: short, and nowhere with a wall about them."""
    kept = []
    needed = {facing for _, _, facing, _ in paths}
    for number in range(len(paths))[::-1]:
        line, parent, facing, frayed = paths[number]
        if parent >= 0 and facing < 0 and number not in needed:
            trunk = paths[parent][0]
            start = trunk[np.linalg.norm(trunk - line[0], axis=1).argmin()]
            beyond = line[_exit(line, start, wall) :]
            short = arc_length(beyond)[-1] < _SHORT * max(wall_distances(start[None], wall)[0], frayed)
            if short and (frayed or len(beyond) < 3 or not (_own_lumen(beyond, wall)[3] > _CORNER).any()):
                continue
        needed.add(parent)
        kept.append(number)
    renumber = {number: k for k, number in enumerate(kept[::-1])} | {-1: -1}
    return [(paths[k][0], renumber[paths[k][1]], renumber[paths[k][2]]) for k in kept[::-1]]


def _joined(paths, wall):
    """Return the `Centreline` of paths that begin at their joints."""
    lines, loops = [], []
    for number, (line, parent, facing) in enumerate(paths):
        line = np.vstack([line[:1], _rounded(_centred(line[1:-1], wall), wall), line[-1:]])
        line = _unjumped(line, wall)
        joint = None
        if parent >= 0:
            trunk = lines[parent][0]
            leaves = int(np.linalg.norm(trunk - line[0], axis=1).argmin())
            line = _led_back(line, trunk, trunk[leaves], wall)
            joint = _joint(line, lines, parent, leaves, wall)
            line = np.vstack([trunk[joint[1]], line])
        # Thin vessels bend on less than a millimetre.
        line = resampled(line, np.clip(wall_distances(line, wall), SPACING / 2, SPACING))
        if 0 <= facing < number and len(line) > 2:
            line = line[:-1]  # the last point is the other's
            loops.append((number, facing))
        lines.append((line, joint))
    return graph(lines, lambda points: wall_distances(points, wall), loops)


def find_caps(vertices, faces, centreline):
    """Return (F,) bool: the flat faces that close a vessel's cut end, at the ends of its centreline.

    vertices: (V, 3), metres; faces: (F, 3), outward. An open end has none, nor has a rounded one.
    """
    caps = np.zeros(len(faces), bool)
    for end, direction, radius in _ends(centreline):
        caps |= find_cap(vertices, faces, end, direction, radius)
    return caps


def _ends(centreline):
    """Yield point (3,), outward unit direction (3,) and radius of each free end of the graph."""
    degree = np.bincount(centreline.edges.ravel(), minlength=len(centreline.points))
    for i in np.flatnonzero(degree == 1):
        own = np.flatnonzero(centreline.branch == centreline.branch[i])
        radius, near = _end_radius(centreline.points[own], centreline.radii[own], centreline.points[i])
        if near.sum() > 1:
            direction = centreline.points[i] - centreline.points[own[near]].mean(axis=0)
            yield centreline.points[i], direction / np.linalg.norm(direction), radius


def _end_radius(points, radii, end):
    """Return the vessel's radius at one end (3,) of its points (N, 3), and (N,) bool: which are about as near.

    In a rounded end, or a flat one's corner, the largest ball shrinks to nothing: the vessel's radius is behind.
    """
    distance = np.linalg.norm(points - end, axis=1)
    beyond = distance[distance > 1.5 * radii + 2 * SPACING]
    near = distance < beyond.min() if len(beyond) else np.ones(len(points), bool)
    return float(radii[near].max()), near


class _Surface:
    """The surface, closed by thought, and what is known of its ends."""

    def __init__(self, vertices, faces):
        borders, self.opening_sizes = frayed_borders(vertices, faces)
        self._frayed = [vertices[np.unique(border)] for border in borders]
        self.vertices, self.faces = hemmed(vertices, borders), faces
        self.centres, self.opening_radii, self.closed_vertices, self.closed_faces = openings(self.vertices, faces)
        self.area, self.normal = areas_and_normals(self.vertices, faces)
        # Both grow as ends are found: the faces that close one, and the openings in which one lies.
        self.caps = np.zeros(len(faces), bool)
        self.taken = np.zeros(len(self.centres), bool)

    def wall(self):
        """Return the `Wall` of the surface without caps, openings left open."""
        return self._wall(self.faces[~self.caps])

    def closed_wall(self):
        """Return the `Wall` of the surface with its caps, openings closed."""
        return self._wall(self.closed_faces)

    def taken_about(self, place):
        """Return the radius, metres, of an opening in which a vessel ends and a place (3,) lies; 0.0: there is none."""
        about = self.taken & (np.linalg.norm(self.centres - place, axis=1) < self.opening_sizes)
        return float(self.opening_sizes[about].max(initial=0.0))

    def end_at(self, opening, place):
        """Return where a vessel with a place (3,) on its axis ends in an opening: in its middle or, where it is frayed,
        as far out as most of what is left of the vessel there."""
        centre, border = self.centres[opening], self._frayed[opening]
        if not len(border):
            return centre
        out = _unit(centre - place)
        return centre + max(np.percentile((border - centre) @ out, _LEFT), 0) * out

    def cap_ahead(self, place, distance, direction, radius, width):
        """Return (F,) bool: the faces of the flat cut ahead of a place (3,) near a vessel's end, all False where there
        is none; and whether it is not ahead but beside.

        distance, direction: metres to the surface along a unit vector (3,) about out of the vessel: where the vessel
        bends as it ends, the cut may lie beside. radius: of the lumen there, and `width` before it, metres.
        """
        ahead = np.zeros(len(self.faces), bool)
        if distance < 3 * radius:
            ahead = find_cap(self.vertices, self.faces, place + distance * direction, direction, radius)
        if self._no_disc(ahead) < _DISC:
            return ahead, False
        best, least = None, _DISC
        side = _unit(np.cross(direction, np.eye(3)[np.abs(direction).argmin()]))
        other = np.cross(direction, side)
        for angle in _BESIDE:
            for turn in np.arange(0, 2 * np.pi, np.pi / 4):
                way = np.cos(angle) * direction + np.sin(angle) * (np.cos(turn) * side + np.sin(turn) * other)
                distance, _ = first_hit(self.vertices, self.faces, place, way)
                if distance > 1.5 * width:
                    continue
                cap = find_cap(self.vertices, self.faces, place + distance * way, way, width)
                off = self._no_disc(cap, width)
                if off < least:
                    best, least = cap, off
        return (ahead, False) if best is None else (best, True)

    def _no_disc(self, faces, radius=None):
        """Return by how much the moments of `faces`, (F,) bool, differ from those of a disc, as a share: of one of
        their area or of a `radius`, metres."""
        if faces.sum() < 3:
            return np.inf
        weight = self.area[faces]
        middles = self.vertices[self.faces[faces]].mean(axis=1)
        moments = np.linalg.eigvalsh(np.cov(middles.T, aweights=weight))
        own = np.linalg.norm(weight @ self.normal[faces]) / np.pi
        square = own if radius is None else radius**2
        return max(abs(np.log(own / square)), *abs(np.log(4 * moments[1:] / square)), 4 * moments[0] / square)

    def _wall(self, faces):
        spacing = max(0.05e-3, np.sqrt(self.area.sum() / 200_000))
        points, face = surface_samples(self.closed_vertices, faces, spacing)
        area, _ = areas_and_normals(self.closed_vertices, faces)
        return make_wall(points, np.sqrt(area[face]), 5 * spacing)


def _tangents(line):
    """Return the unit directions (N, 3) of a line (N, 3); any where its points coincide."""
    tangent = np.gradient(line, axis=0)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.where(length > 1e-12, tangent / np.maximum(length, 1e-12), (1.0, 0.0, 0.0))


def _rounded(line, wall):
    """Return the line (N, 3) moved, where others open into its vessel, to the middle of what is left of the wall."""
    if len(line) < 3:
        return line
    ball = wall_distances(line, wall)
    window = 1 + 2 * int(min(4 * np.median(ball) * len(line) / max(arc_length(line)[-1], 1e-9), len(line)))
    radii = np.minimum(ball, median_filter(ball, window, mode='nearest'))  # a shared lumen is wider than the vessel
    tangent = _tangents(line)
    moved, share = round_middles(line, tangent, radii, wall)
    _, share_of_ball = round_middles(line, tangent, ball, wall)  # an aneurysm is wide too, but round
    shared = np.maximum(share, share_of_ball)[:, None] < 0.9
    return np.where(shared, smoothed(np.where(shared, moved, line), 0.5 * ball), line)


def _unjumped(line, wall):
    """Return the line (N, 3) without jumps from the middle of a wide lumen to that of a vessel that leaves it slowly:
    led back from there as far as the vessel's own wall is to be seen."""
    along, radii, middle, share = _own_lumen(line, wall)
    own = share > _WALL_THERE
    kept = len(line)  # points that are where they were
    for begin in np.flatnonzero(own[1:] & ~own[:-1])[::-1] + 1:
        before = np.flatnonzero(own[:begin])
        shared = along[begin] - (along[before[-1]] if len(before) else 0)
        if not 3 <= begin < kept or shared < _ROUGH * radii[begin]:
            continue
        trunk = line[:begin]
        way, apart = _traced_back(line[:kept], begin, middle[begin], radii[begin], trunk, shared, wall)
        nearest = np.linalg.norm(trunk - way[-1], axis=1).argmin()
        width = wall_distances(trunk[nearest : nearest + 1], wall)[0]
        if apart.max() < _ROUGH * radii[begin] or width < _WIDER * radii[begin]:
            continue
        way = np.vstack([way[::-1], line[begin + 1 :]])
        kept = _origin(way, trunk, nearest, 1.5 * width, wall) + 1
        line = np.vstack([line[:kept], way])
    return line


def _led_back(line, trunk, start, wall):
    """Return the line (N, 3) of a vessel that leaves a trunk (M, 3), without its way through the trunk's lumen: from
    where its own wall begins to be seen, that is inside the trunk where it leaves that slowly.

    start: (3,) the trunk's point that the path leaves.
    """
    line = line[_exit(line, start, wall) :]
    if len(line) < 3:
        return line
    along, radii, middle, share = _own_lumen(line, wall)
    own = (share > _WALL_THERE) & (along < _OWN_WITHIN * radii)
    if not own.any():
        return line
    begin = int(np.argmax(own))
    way, apart = _traced_back(line, begin, middle[begin], radii[begin], trunk, along[begin], wall)
    if arc_length(way)[-1] < _SLOWLY * radii[begin] or apart[-1] > wall_distances(start[None], wall)[0]:
        return line[begin:]
    return np.vstack([way[::-1], line[begin + 1 :]])


def _own_lumen(line, wall):
    """Return how far along a line (N, 3) its points lie, the radii of their balls and the middles (N, 3) of the round
    walls about them, and the shares (N,) of these walls that are there."""
    radii = wall_distances(line, wall)
    return arc_length(line), radii, *round_middles(line, _tangents(line), radii, wall)


def _traced_back(line, begin, middle, radius, trunk, shared, wall):
    """Return the middle (N, 3) of the vessel that a line follows from its point `begin` on, traced from there back
    through the lumen shared with a trunk (M, 3) to where it comes nearest to that; and how far (N,) it is from it.

    middle, radius: of the vessel's round wall at the point. shared: how long that lumen seems to be, metres.
    """
    away = np.linalg.norm(line[begin:] - line[begin], axis=1)
    ahead = line[begin:][np.argmax((away >= _AHEAD * radius) | (away == away.max()))]
    tree = cKDTree(trunk)
    if not (ahead != line[begin]).any():
        return middle[None], tree.query(middle[None])[0]
    width = wall_distances(trunk[tree.query(middle)[1]][None], wall)[0]
    traced = trace(middle, _unit(line[begin] - ahead), radius, shared + _BLURRED * width, wall)
    apart, _ = tree.query(traced)
    first = int(np.argmax(np.append(np.diff(apart) < 0, True)))  # begun on a jump, it leaves the trunk's line at first
    end = first + int(apart[first:].argmin()) + 1
    return traced[:end], apart[:end]


def _centred(line, wall):
    """Return the line (N, 3) moved, across its direction, to the middle between its walls."""
    if len(line) < 2:
        return line
    for sigma, first_step in ((1.0, 0.5), (0.5, 0.2)):
        line = smoothed(line, sigma * wall_distances(line, wall))
        tangent = _tangents(line)
        side = np.cross(tangent, np.eye(3)[np.abs(tangent).argmin(axis=1)])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        line = middles(line, tangent, side, np.cross(tangent, side), wall, first_step)
    return smoothed(line, 0.5 * wall_distances(line, wall))


def _ended(line, wall, surface):
    """Return the line led on to where the vessel ends: into the opening, to the cap's centre or, the end being rounded,
    to the surface."""
    width, _ = _end_radius(line, wall_distances(line, wall), line[-1])
    # What else leads into an opening in which a vessel ends leads into a corner of it.
    in_opening = ~surface.taken & (np.linalg.norm(surface.centres - line[-1], axis=1) < surface.opening_sizes)
    line, direction, radius = _led_on(line, wall)
    ahead = (surface.centres - line[-1]) @ direction
    gap = np.linalg.norm(surface.centres - line[-1], axis=1)
    fits = in_opening | (gap < 3 * radius) & (ahead > 0.5 * gap) & (surface.opening_radii > 0.4 * radius)
    if fits.any():
        opening = int(np.argmin(np.where(fits, gap, np.inf)))
        surface.taken[opening] = True
        outside = _before(line, surface.centres[opening], _STRAIGHT * surface.opening_sizes[opening])
        end = surface.end_at(opening, outside[-1])
        line = outside if in_opening[opening] else line
    else:
        distance, _ = first_hit(surface.closed_vertices, surface.closed_faces, line[-1], direction)
        end = line[-1] + distance * direction
        cap, beside = surface.cap_ahead(line[-1], distance, direction, radius, width)
        if cap.any():
            surface.caps |= cap
            end = np.average(surface.vertices[surface.faces[cap]].mean(axis=1), axis=0, weights=surface.area[cap])
            line = _before(line, end, _STRAIGHT * width) if beside else line
        elif distance > 3 * radius:
            return line
    spacing = max(np.linalg.norm(line[-1] - line[-2]), 0.1e-3)
    return np.vstack([line, resampled(np.stack([line[-1], end]), spacing)[1:]])


def _before(line, end, distance):
    """Return the line (N, 3), two points of it at least, as far as it comes within a distance of its vessel's end: from
    there on, coming from the side, it has turned into the end's corner."""
    near = np.linalg.norm(line - end, axis=1) < distance
    return line[: max(int(np.argmax(near)), 2)] if near.any() else line


def _led_on(line, wall):
    """Return the line (N, 3) led on, step by step, along the middle of its vessel until its end is nearer than its
    sides; the direction (3,) there, and the vessel's radius.

    A path is cut off some radii before the vessel's end, which may bend or widen on them.
    """
    radii = wall_distances(line, wall)
    radius, near = _end_radius(line, radii, line[-1])
    # Before the end, its corner or an oblique cut's near side bends the line.
    last = max(int(np.flatnonzero(near & (radii >= 0.9 * radius))[-1]), 1)
    line, radius = line[: last + 1], radii[last]
    left = arc_length(line[::-1])[::-1]
    direction = _unit(line[-1] - line[min(np.argmax(left <= max(radius, 2.5 * SPACING)), len(line) - 2)])
    step = _STEP_ON * radius
    points = [line[-1]]
    for _ in range(int(_LED_ON / _STEP_ON)):
        side = _unit(np.cross(direction, np.eye(3)[np.abs(direction).argmin()]))
        guess = (points[-1] + step * direction)[None]
        place = middles(guess, direction[None], side[None], np.cross(direction, side)[None], wall, 0.2)
        ball = wall_distances(place, wall)[0]
        if not _NARROWS * radius < ball < radius / _NARROWS:
            break
        radius = ball
        points.append(place[0])
        direction = _unit(direction + _unit(points[-1] - points[max(len(points) - 4, 0)]))  # one step alone is noise
    return np.vstack([line, points[1:]]) if len(points) > 1 else line, direction, radius


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _joint(line, lines, parent, leaves, wall):
    """Return where a line leaves its parent: (number of the line, number of the point on it).

    Inside the parent's lumen a path hugs the parent's middle, where its cost is least, before it turns off. The vessel
    itself points back to where it comes from: the point of the parent nearest to its prolongation.
    """
    parent_line = lines[parent][0]
    ball = wall_distances(parent_line[leaves : leaves + 1], wall)[0]
    # Where the parent bulges, or has few faces, the line begins farther off than the largest ball reaches.
    reach = 0.5 * ball + max(ball, np.linalg.norm(parent_line - line[0], axis=1).min())
    at = _origin(line, parent_line, leaves, reach, wall)
    # What leaves at nearly the same place leaves at the same place: nearer than its own radius.
    taken = np.array([j[1] for _, j in lines if j is not None and j[0] == parent], int)
    apart = np.linalg.norm(parent_line[taken] - parent_line[at], axis=1)
    near = apart < np.median(wall_distances(line[: max(len(line) // 2, 1)], wall))
    return parent, taken[int(np.argmax(near))] if near.any() else at


def _origin(line, parent_line, at, reach, wall):
    """Return the number of the parent's point that is nearest to the line's prolongation, about the point `at`.

    reach: how far from the line's begin it may be, metres.
    """
    away = np.linalg.norm(line - line[0], axis=1) / wall_distances(line, wall)
    near, far = (np.flatnonzero(away >= radii) for radii in _PROLONGED)
    if not len(far) or far[0] < near[0] + 2:
        return at
    piece = line[near[0] : far[0] + 1]
    middle = piece.mean(axis=0)
    back = np.linalg.svd(piece - middle, full_matrices=False)[2][0]
    back *= np.sign((piece[0] - piece[-1]) @ back)
    offset = parent_line - middle
    along = offset @ back
    beside = np.linalg.norm(offset - along[:, None] * back, axis=1)
    inside = (along > 0) & (np.linalg.norm(parent_line - line[0], axis=1) < reach)
    return int(np.argmin(np.where(inside, beside, np.inf))) if inside.any() else at


def _exit(line, start, wall):
    """Return the number of the line's point at its ostium: outside the largest ball about `start` and, where the
    parent bulges beyond that, where the line is in a lumen of its own width."""
    from_start = np.linalg.norm(line - start, axis=1)
    ball = wall_distances(start[None], wall)[0]
    outside = from_start > ball
    if not outside.any():
        return len(line) - 1
    leave = int(np.argmax(outside))
    width = wall_distances(line[leave:], wall)
    wide = (width > 1.4 * np.median(width)) & (from_start[leave:] < 1.6 * ball)
    return len(line) - 1 if wide.all() else leave + int(np.argmin(wide))


def graph(lines, radii_of, loops=()):
    """Return the `Centreline` of lines, cut into branches where others leave them.

    lines: [(points (n, 3), joint)]; joint: None, or (line, point) of a line before it, which is then the first point.
    radii_of: from points (N, 3) to radii (N,). loops: pairs of lines whose ends are joined.
    """
    numbers, points, branch, arc, edges = [], [], [], [], []
    count = branches = 0
    for k, (line, joint) in enumerate(lines):
        new = line if joint is None else line[1:]
        own = np.arange(count, count + len(new))
        count += len(new)
        number = own if joint is None else np.concatenate([[numbers[joint[0]][joint[1]]], own])
        numbers.append(number)
        edges.append(np.stack([number[:-1], number[1:]], axis=1))
        cuts = [numbers[k][j[1]] + 1 for _, j in lines if j is not None and j[0] == k]
        for part in np.split(new, sorted({c - own[0] for c in cuts if own[0] < c < own[-1]})):
            points.append(part)
            arc.append(arc_length(part))
            branch.append(np.full(len(part), branches))
            branches += 1
    edges += [np.array([[numbers[one][-1], numbers[two][-1]]]) for one, two in loops]
    points = np.vstack(points)
    return Centreline(
        points=points,
        radii=radii_of(points),
        branch=np.concatenate(branch).astype(np.int32),
        arc_length=np.concatenate(arc),
        edges=np.vstack(edges).astype(np.int32),
    )
