"""A rendered semantic-segmentation data set of outdoor scenes, for demos that download nothing.

A scene is a pinhole view of a flat ground plane: ground surfaces are textured in world
coordinates, and things stand on the ground, so that what is nearer is lower in the image, bigger,
and in front.  Every class draws its colour from a few colour families that several classes share
(see ``_TINTS``); what tells classes apart is texture, shape and context.

Lengths are in metres and ``ppm`` is pixels per metre, unless a name says otherwise.  Colours are
RGB floats in [0, 1] until the very end.
"""

import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from lspt_mm.utils.checks import check_int

CLASSES = (
    'sky', 'mountain', 'water', 'grass', 'road', 'sand', 'building', 'brick wall', 'fence',
    'tree', 'bush', 'car', 'person', 'ball', 'sign', 'lamp post',
)

PALETTE = (
    (135, 206, 250), (140, 120, 160), (30, 90, 200), (120, 200, 80), (110, 110, 110),
    (240, 220, 150), (190, 140, 110), (160, 50, 40), (230, 150, 60), (20, 110, 40),
    (150, 160, 20), (0, 20, 110), (230, 30, 120), (255, 255, 60), (0, 220, 220), (90, 40, 170),
)

_SUPERSAMPLING = 2
# Not a class: odd objects that stay label 0, as the unlabelled pixels of ADE20K do.
_CLUTTER = 'clutter'
_LABEL = {name: index for index, name in enumerate(CLASSES, start=1)} | {_CLUTTER: 0}

_FAMILIES = {
    'blue': (0.45, 0.62, 0.82),
    'teal': (0.30, 0.52, 0.54),
    'grey': (0.54, 0.55, 0.57),
    'pale': (0.82, 0.82, 0.80),
    'dark': (0.24, 0.25, 0.28),
    'beige': (0.78, 0.68, 0.50),
    'orange': (0.82, 0.56, 0.34),
    'red': (0.64, 0.29, 0.24),
    'brown': (0.45, 0.34, 0.25),
    'green': (0.31, 0.46, 0.21),
    'olive': (0.50, 0.49, 0.25),
}
_ANY_TINT = tuple(_FAMILIES)
# A family named twice is met twice as often.
_TINTS = {
    'sky': ('blue', 'blue', 'pale', 'grey', 'orange'),
    'mountain': ('blue', 'teal', 'grey', 'brown', 'olive', 'green'),
    'water': ('blue', 'blue', 'teal', 'grey', 'green', 'pale'),
    'grass': ('green', 'green', 'olive', 'olive', 'beige', 'brown'),
    'road': ('grey', 'grey', 'dark', 'brown', 'beige', 'pale'),
    'sand': ('beige', 'beige', 'pale', 'orange', 'grey', 'brown'),
    'building': ('beige', 'grey', 'red', 'pale', 'blue', 'orange', 'brown', 'olive'),
    'brick wall': ('red', 'beige', 'grey', 'brown', 'orange', 'pale'),
    'fence': ('brown', 'pale', 'beige', 'grey', 'green', 'teal', 'red'),
    'tree': ('green', 'green', 'olive', 'teal', 'orange', 'red'),
    'bush': ('green', 'green', 'olive', 'teal', 'orange', 'red'),
    'car': _ANY_TINT,
    'person': _ANY_TINT,
    'ball': _ANY_TINT,
    'sign': ('red', 'blue', 'orange', 'green', 'pale', 'dark'),
    'lamp post': ('dark', 'grey', 'green', 'pale', 'brown'),
    _CLUTTER: _ANY_TINT,
}


# ---------------------------------------------------------------------------------------------
# Noise and colour


def _noise(rng, shape, cell):
    """Value noise in [-1, 1]; ``cell`` is the size of one bump in pixels, (rows, columns)."""
    height, width = shape
    rows, columns = cell
    grid = rng.random((math.ceil(height / rows) + 1, math.ceil(width / columns) + 1), np.float32)
    return cv2.resize(2 * grid - 1, (width, height), interpolation=cv2.INTER_LINEAR)


def _grain(rng, shape):
    """White noise in [-1, 1]."""
    return 2 * rng.random(shape, np.float32) - 1


def _pick(rng, options):
    return options[rng.integers(len(options))]


def _tint(rng, name):
    """A colour for one instance of a class: a shared family, then jitter inside it."""
    base = np.array(_FAMILIES[_pick(rng, _TINTS[name])])
    return np.clip(base * rng.uniform(0.75, 1.25) + rng.uniform(-0.06, 0.06, 3), 0.05, 0.97)


def _mix(colour, other, share):
    return (1 - share) * np.asarray(colour) + share * np.asarray(other)


def _shaded(tint, shade):
    """Turns a relative brightness map (H, W) into an image (H, W, 3) of one colour."""
    light = (1 + shade).astype(np.float32)
    return cv2.merge([light * np.float32(channel) for channel in tint])


# ---------------------------------------------------------------------------------------------
# The two surfaces that are drawn on: a sprite for each thing, a canvas for the scene


class _Sprite:
    """A thing seen upright: x runs right from 0 to width, y up from the ground, in metres."""

    def __init__(self, width, height, ppm):
        self.width, self.height, self.ppm = width, height, ppm
        shape = (max(1, round(height * ppm)), max(1, round(width * ppm)))
        self.rgb = np.zeros((*shape, 3), np.float32)
        self.mask = np.zeros(shape, np.uint8)

    def _pixels(self, points):
        # Half a pixel off, because OpenCV counts from pixel centres; 1/8 pixel by shift=3.
        scale, origin = (8 * self.ppm, -8 * self.ppm), (-4, 8 * self.mask.shape[0] - 4)
        return np.rint(np.multiply(points, scale) + origin).astype(np.int32)

    def polygon(self, points, colour):
        points = [self._pixels(points)]
        cv2.fillPoly(self.rgb, points, tuple(map(float, colour)), shift=3)
        cv2.fillPoly(self.mask, points, 1, shift=3)

    def box(self, left, bottom, right, top, colour):
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour)

    def disc(self, x, y, radius, colour):
        centre = tuple(map(int, self._pixels([(x, y)])[0]))
        radius = max(4, round(8 * radius * self.ppm))
        cv2.circle(self.rgb, centre, radius, tuple(map(float, colour)), -1, shift=3)
        cv2.circle(self.mask, centre, radius, 1, -1, shift=3)

    def limb(self, start, end, width, colour):
        """A straight bar from one point to another."""
        start, end = np.array(start, float), np.array(end, float)
        along = (end - start) / np.linalg.norm(end - start)
        side = np.array([-along[1], along[0]]) * width / 2
        self.polygon([start - side, end - side, end + side, start + side], colour)

    def shade(self, shade):
        self.rgb *= (1 + shade)[..., None]


class _Canvas:
    """Image and label of a scene under construction; later paint hides earlier paint."""

    def __init__(self, size_px):
        self.size_px = size_px
        self.rgb = np.zeros((size_px, size_px, 3), np.float32)
        self.label = np.zeros((size_px, size_px), np.uint8)

    def paint(self, top, mask, rgb, label):
        """Paints full-width rows that start at row ``top``, where ``mask`` is set."""
        rows = slice(top, top + mask.shape[0])
        # OpenCV's masked copy: several times as fast as numpy's for three channels.
        cv2.copyTo(rgb, mask.view(np.uint8), self.rgb[rows])
        np.copyto(self.label[rows], np.uint8(label), where=mask)

    def paste(self, sprite, centre_px, foot_px, label):
        """Pastes a sprite that stands on row ``foot_px``; what lies outside is cut off."""
        height, width = sprite.mask.shape
        top, left = round(foot_px) - height, round(centre_px - width / 2)
        inner = self._overlap(top, left, height, width)
        if inner is None:
            return
        rows, columns = inner
        cut = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mask = sprite.mask[cut].astype(bool)
        np.copyto(self.rgb[inner], sprite.rgb[cut], where=mask[..., None])
        np.copyto(self.label[inner], np.uint8(label), where=mask)

    def darken(self, centre_px, foot_px, radii_px, strength):
        """A soft elliptic shadow on what is painted already; labels stay."""
        rx, ry = radii_px
        top, left = round(foot_px - ry), round(centre_px - rx)
        inner = self._overlap(top, left, round(2 * ry), round(2 * rx))
        if inner is None:
            return
        rows, columns = inner
        dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - foot_px) / ry
        dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - centre_px) / rx
        depth = np.clip(1.5 * (1 - dy[:, None] ** 2 - dx**2), 0, 1)
        self.rgb[inner] *= (1 - strength * depth)[..., None]

    def _overlap(self, top, left, height, width):
        rows = slice(max(top, 0), min(top + height, self.size_px))
        columns = slice(max(left, 0), min(left + width, self.size_px))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


@dataclass(frozen=True)
class _View:
    """Camera over a flat ground plane, and the light of the scene."""

    size_px: int
    horizon_px: float
    focal_px: float
    camera_height: float
    sun: float  # -1: light from the left, 1: from the right
    haze: float  # 0 to 1
    haze_colour: np.ndarray

    def ppm(self, distance):
        return self.focal_px / distance

    def foot_px(self, distance):
        return self.horizon_px + self.camera_height * self.ppm(distance)


@dataclass(frozen=True)
class _Ground:
    """World coordinates of the ground seen at each pixel from row ``top`` down."""

    top: int
    x: np.ndarray  # (H, W), metres to the right
    z: np.ndarray  # (H, W), metres away
    ppm: np.ndarray  # (H, 1)

    @classmethod
    def seen_from(cls, view):
        top = math.ceil(view.horizon_px + 0.5)
        below = np.arange(top, view.size_px, dtype=np.float32)[:, None] + 0.5 - view.horizon_px
        ppm = below / np.float32(view.camera_height)
        across = np.arange(view.size_px, dtype=np.float32) + 0.5 - view.size_px / 2
        z = np.broadcast_to(view.focal_px / ppm, (len(ppm), view.size_px))
        return cls(top, across / ppm, z, ppm)

    def noise(self, rng, cell):
        """Value noise that lies on the ground; ``cell`` is the size of a bump in x and z."""
        tile = _grain(rng, (64, 64))
        x, z = self.x / np.float32(cell[0]), self.z / np.float32(cell[1])
        noise = cv2.remap(tile, x, z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return noise * self.visible(cell[1])

    def visible(self, length):
        """1 where ``length`` along z covers some pixels, towards 0 where it would alias."""
        # A step along z is foreshortened by camera height over distance, hence ppm squared.
        return np.clip(self.ppm**2 * np.float32(length) / 60, 0, 1)


# ---------------------------------------------------------------------------------------------
# Backdrop


def _paint_sky(rng, canvas, view, tint):
    size, base = canvas.size_px, math.ceil(view.horizon_px + 0.5)
    ramp = np.linspace(-0.15, 0.15, base, dtype=np.float32)[:, None] * rng.uniform(0.3, 1.2)
    clouds = _noise(rng, (base, size), (size / 7, size / 4))
    clouds += 0.5 * _noise(rng, (base, size), (size / 18, size / 10))
    clouds = np.clip(clouds + rng.uniform(-0.6, 0.4), 0, 1) * np.float32(rng.uniform(0, 0.9))
    clear = _shaded(tint, np.broadcast_to(ramp, clouds.shape))
    rgb = clear + (np.float32(rng.uniform(0.75, 0.98)) - clear) * clouds[..., None]
    canvas.paint(0, np.ones((base, size), bool), rgb, _LABEL['sky'])


def _paint_mountain(rng, canvas, view, tint):
    size, base = canvas.size_px, math.ceil(view.horizon_px + 0.5)
    ridge = sum(
        weight * _noise(rng, (1, size), (1, size / bumps))[0]
        for weight, bumps in ((1, 3), (0.4, 9), (0.12, 40))
    )
    peak = rng.uniform(0.3, 0.8) * base
    crest = base - peak * np.clip(0.55 + 0.45 * ridge, 0.05, 1)
    rows = np.arange(base, dtype=np.float32)[:, None]
    # Slanted noise reads as slopes and gullies: shear columns by row before looking noise up.
    relief = _noise(rng, (base, 2 * size), (size / 8, size / 30))
    shear = (np.arange(size)[None] + (rows * rng.uniform(0.4, 1)).astype(int)) % (2 * size)
    slopes = np.take_along_axis(relief, shear, axis=1)
    shade = 0.3 * slopes + 0.12 * _grain(rng, (base, size))
    rgb = _shaded(tint, shade)
    if rng.random() < 0.4:
        snow = np.clip((crest + peak * 0.25 * (1 + slopes) - rows) / 6, 0, 1)
        rgb += (np.float32(0.92) * (1 + 0.3 * shade[..., None]) - rgb) * snow[..., None]
    canvas.paint(0, rows >= crest, rgb, _LABEL['mountain'])


# ---------------------------------------------------------------------------------------------
# Ground: each texture is a relative brightness map (H, W)


def _texture_water(rng, ground):
    waves = ground.noise(rng, (2.0, 0.7)) + 0.7 * ground.noise(rng, (0.7, 0.25))
    # Far waves are too small to see one by one; short level streaks stand for them.
    streaks = _noise(rng, ground.x.shape, (2, 12)) * (1 - 0.7 * ground.visible(0.7))
    glitter = (waves + streaks > 0.9) * np.float32(0.35)
    return 0.22 * waves + 0.16 * streaks + glitter


def _texture_grass(rng, ground):
    shape = ground.x.shape
    near = np.clip(ground.ppm / 60, 0, 1)
    blades = (1 - near) * _noise(rng, shape, (4, 1.5)) + near * _noise(rng, shape, (12, 3))
    return (0.3 + 0.15 * near) * blades + 0.14 * ground.noise(rng, (1.0, 1.5))


def _texture_road(rng, ground):
    patches = ground.noise(rng, (1.5, 3.0))
    cracks = np.abs(ground.noise(rng, (0.9, 1.2))) < 0.03
    cracks = cracks * ground.visible(1.2)
    return 0.16 * _grain(rng, ground.x.shape) + 0.06 * patches - 0.3 * cracks


def _texture_sand(rng, ground):
    period = rng.uniform(0.35, 0.7)
    bend = 0.5 * ground.noise(rng, (1.6, 1.6))
    ripples = np.sin(2 * np.pi * (ground.z / np.float32(period) + 0.3 * ground.x + bend))
    pebbles = (_noise(rng, ground.x.shape, (2.5, 3)) > 0.8) * np.float32(-0.25)
    return 0.2 * ripples * ground.visible(period) + pebbles + 0.1 * ground.noise(rng, (2, 3))


_GROUND_TEXTURES = {
    'water': _texture_water,
    'grass': _texture_grass,
    'road': _texture_road,
    'sand': _texture_sand,
}


def _everywhere(rng, ground):
    return np.ones(ground.x.shape, bool), None


def _strip(rng, ground):
    """A street or path that leads away; also gives the place across it, in half widths."""
    bend = rng.uniform(0, 2.5) * np.sin(ground.z / np.float32(rng.uniform(6, 20)))
    centre = rng.uniform(-3, 3) + bend + rng.uniform(-0.25, 0.25) * ground.z
    across = (ground.x - centre) / np.float32(rng.uniform(1.2, 4.5))
    return np.abs(across) < 1, across


def _beyond(rng, ground):
    """All that lies behind a wavy shore line."""
    shore = rng.uniform(6, 16) + rng.uniform(0.2, 1.5) * np.sin(ground.x / rng.uniform(2, 6))
    return ground.z > shore + rng.uniform(-0.4, 0.4) * ground.x, None


def _across(rng, ground):
    """A band from left to right, such as a road or river that is crossed."""
    near = rng.uniform(4, 10)
    slanted = ground.z + rng.uniform(-0.5, 0.5) * ground.x
    return (slanted > near) & (slanted < near * rng.uniform(1.5, 2.5)), None


def _pool(rng, ground):
    """A rounded patch somewhere in front of the camera."""
    x, z = rng.uniform(-5, 5), rng.uniform(6, 14)
    rim = ((ground.x - x) / rng.uniform(2, 6)) ** 2 + ((ground.z - z) / rng.uniform(2, 5)) ** 2
    return rim < 1 + 0.2 * np.sin(ground.x * 2) * np.sin(ground.z), None


def _paint_ground(rng, canvas, ground, name, region, tint):
    mask, across = region(rng, ground)
    shade = _GROUND_TEXTURES[name](rng, ground)
    if name == 'road' and across is not None and rng.random() < 0.6:
        dashes = (np.abs(across) < 0.05) & (np.mod(ground.z, 3) < 1.8)
        edges = np.abs(np.abs(across) - 0.9) < 0.03
        shade = shade + rng.uniform(0.4, 0.9) * (dashes | edges)
    rgb = _shaded(tint, shade)
    # Patches of another hue, so that a surface is not one colour.
    drift = _noise(rng, mask.shape, (canvas.size_px / 5, canvas.size_px / 3))
    rgb += drift[..., None] * rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    canvas.paint(ground.top, mask, rgb, _LABEL[name])


# ---------------------------------------------------------------------------------------------
# Things: each function gives a sprite


def _draw_building(rng, tint, ppm):
    storeys = int(rng.integers(1, 7))
    wall_height, width = 3.0 * storeys, rng.uniform(6, 14)
    gable = rng.uniform(1.5, 3) if storeys < 4 and rng.random() < 0.6 else 0.0
    sprite = _Sprite(width, wall_height + gable + 0.4, ppm)
    roof = _mix(tint, _tint(rng, 'building'), 0.7) * rng.uniform(0.4, 0.9)
    if gable:
        sprite.polygon([(0, wall_height), (width, wall_height), (width / 2, sprite.height)], roof)
    else:
        sprite.box(0, wall_height, width, sprite.height, roof)
    sprite.box(0, 0, width, wall_height, tint)
    _draw_windows(rng, sprite, storeys, tint)
    sprite.shade(0.06 * _grain(rng, sprite.mask.shape))
    return sprite


def _draw_windows(rng, sprite, storeys, tint):
    columns = max(2, round(sprite.width / rng.uniform(1.6, 3)))
    pitch = sprite.width / columns
    half, sill, head = pitch * rng.uniform(0.22, 0.4), rng.uniform(0.5, 1.0), rng.uniform(2.2, 2.7)
    glass, frame = _mix(tint, (0.1, 0.12, 0.16), 0.8), _mix(tint, (1, 1, 1), rng.uniform(0, 0.6))
    for storey in range(storeys):
        for column in range(columns):
            x, y = (column + 0.5) * pitch, 3.0 * storey
            sprite.box(x - half - 0.1, y + sill - 0.1, x + half + 0.1, y + head + 0.1, frame)
            pane = _mix(glass, (0.75, 0.85, 0.95), rng.uniform(0, 0.35))
            sprite.box(x - half, y + sill, x + half, y + head, pane)
    door = (rng.integers(columns) + 0.5) * pitch
    sprite.box(door - 0.6, 0, door + 0.6, 2.2, _mix(tint, (0.2, 0.15, 0.1), 0.7))


def _draw_brick_wall(rng, tint, ppm):
    sprite = _Sprite(rng.uniform(5, 25), rng.uniform(1.6, 3.6), ppm)
    height, width = sprite.mask.shape
    # Courses stay wide enough to be seen after downsampling.
    course = max(6.0, rng.uniform(0.22, 0.4) * ppm)
    brick = course * rng.uniform(1.9, 2.6)
    row, from_bottom = np.divmod(height - 1 - np.arange(height)[:, None], course)
    column, from_left = np.divmod(np.arange(width)[None] + brick / 2 * (row % 2), brick)
    tones = rng.uniform(-0.25, 0.2, (int(row.max()) + 1, int(column.max()) + 1))
    mortar_px = max(1.6, 0.14 * course)
    mortar = (from_bottom < mortar_px) | (from_left < mortar_px)
    sprite.rgb[:] = _shaded(tint, tones[row.astype(int), column.astype(int)])
    sprite.rgb[mortar] = _mix(tint, _pick(rng, ((0.85, 0.83, 0.8), (0.2, 0.2, 0.2))), 0.7)
    sprite.shade(0.08 * _grain(rng, sprite.mask.shape))
    sprite.mask[:] = 1
    return sprite


def _draw_fence(rng, tint, ppm):
    length, height = rng.uniform(5, 20), rng.uniform(0.9, 1.6)
    sprite = _Sprite(length, height, ppm)
    pitch = max(rng.uniform(0.22, 0.4), 7 / ppm)
    # Planks touch; pickets let the background through, and those gaps keep its label.
    touching = rng.random() < 0.5
    width = pitch * (0.8 if touching else rng.uniform(0.45, 0.6))
    pointed = rng.uniform(0, 0.6) * width
    if touching:
        sprite.box(0, 0, length, height - 0.1, np.asarray(tint) * 0.4)
    for rail in (0.3, 0.75):
        sprite.box(0, rail * height - 0.06, length, rail * height + 0.06, np.asarray(tint) * 0.75)
    for left in np.arange(0, length, pitch):
        right, shoulder = left + width, height - pointed
        outline = [(left, 0), (right, 0), (right, shoulder), (left + width / 2, height)]
        sprite.polygon([*outline, (left, shoulder)], np.asarray(tint) * rng.uniform(0.85, 1.1))
    sprite.shade(0.12 * _noise(rng, sprite.mask.shape, (12, 1.5)))
    return sprite


def _draw_foliage(rng, sprite, centre, radii, tint, leaf):
    """A crown of leafy clumps: darker ones first and lower, lighter ones on top of them."""
    count = 45
    angles, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    xs = centre[0] + 0.78 * radii[0] * reach * np.cos(angles)
    ys = centre[1] + 0.78 * radii[1] * reach * np.sin(angles)
    light = 0.8 + 0.25 * (ys - centre[1]) / radii[1] + rng.uniform(-0.2, 0.2, count)
    for i in np.argsort(light):
        radius = min(radii) * rng.uniform(0.18, 0.34)
        sprite.disc(xs[i], ys[i], radius, np.asarray(tint) * light[i])
    cell = max(2.0, leaf * sprite.ppm)
    sprite.shade(0.45 * _noise(rng, sprite.mask.shape, (cell, cell)))


def _draw_tree(rng, tint, ppm):
    height = rng.uniform(3.5, 8)
    bark = np.array(_FAMILIES[_pick(rng, ('brown', 'grey', 'dark'))]) * rng.uniform(0.6, 1.1)
    if rng.random() < 0.3:
        return _draw_conifer(rng, tint, bark, height, ppm)
    width = height * rng.uniform(0.5, 0.9)
    sprite = _Sprite(width, height, ppm)
    thick = rng.uniform(0.06, 0.1) * height
    sprite.limb((width / 2, 0), (width / 2, height * 0.6), thick, bark)
    crown = height * rng.uniform(0.28, 0.36)
    _draw_foliage(rng, sprite, (width / 2, height - crown), (width / 2, crown), tint, 0.16)
    return sprite


def _draw_conifer(rng, tint, bark, height, ppm):
    width = height * rng.uniform(0.35, 0.5)
    sprite = _Sprite(width, height, ppm)
    sprite.limb((width / 2, 0), (width / 2, height / 2), 0.06 * height, bark)
    tiers = 5
    for tier in range(tiers):
        low, reach = height * (0.14 + 0.16 * tier), width / 2 * (1 - 0.17 * tier)
        top = min(height, low + 0.3 * height)
        outline = [(width / 2 - reach, low), (width / 2 + reach, low), (width / 2, top)]
        sprite.polygon(outline, np.asarray(tint) * (0.7 + 0.07 * tier))
    cell = max(2.0, 0.12 * ppm)
    sprite.shade(0.4 * _noise(rng, sprite.mask.shape, (2 * cell, cell)))
    return sprite


def _draw_bush(rng, tint, ppm):
    height = rng.uniform(0.7, 1.7)
    sprite = _Sprite(height * rng.uniform(1.2, 2.6), height, ppm)
    centre, radii = (sprite.width / 2, 0.4 * height), (sprite.width / 2, 0.6 * height)
    _draw_foliage(rng, sprite, centre, radii, tint, 0.07)
    if rng.random() < 0.5:
        blossom = (_noise(rng, sprite.mask.shape, (3, 3)) > 0.7) & (sprite.mask > 0)
        sprite.rgb[blossom] = _FAMILIES[_pick(rng, ('pale', 'orange', 'red', 'blue'))]
    return sprite


_GLASS = (0.16, 0.2, 0.25)
_RUBBER = (0.07, 0.07, 0.08)


def _draw_car(rng, tint, ppm):
    return (_draw_car_side if rng.random() < 0.6 else _draw_car_end)(rng, tint, ppm)


def _draw_car_side(rng, tint, ppm):
    length, roof = rng.uniform(3.8, 4.8), rng.uniform(1.4, 1.9)
    sprite = _Sprite(length, roof, ppm)
    facing_left = rng.random() < 0.5

    def place(*points):
        return [(length * (1 - x if facing_left else x), y) for x, y in points]

    glass = _mix(_GLASS, (0.7, 0.8, 0.9), rng.uniform(0, 0.4))
    hood, rear = rng.uniform(0.62, 0.72), rng.uniform(0.03, 0.2)
    cabin = ((0.02, 0.9), (rear, roof), (hood - 0.08, roof), (hood + 0.1, 0.9))
    body = ((0, 0.25), (1, 0.25), (1, 0.7), (hood + 0.1, 0.95), (0.02, 0.95), (0, 0.6))
    sprite.polygon(place(*cabin), tint)
    sprite.polygon(place(*body), tint)
    top = roof - 0.1
    windows = ((0.08, 0.95), (rear + 0.03, top), (hood - 0.1, top), (hood + 0.05, 0.95))
    sprite.polygon(place(*windows), glass)
    pillar = (rear + hood) / 2
    post = ((pillar, 0.9), (pillar, roof), (pillar + 0.03, roof), (pillar + 0.03, 0.9))
    sprite.polygon(place(*post), tint)
    skirt = ((0, 0.25), (1, 0.25), (1, 0.38), (0, 0.38))
    sprite.polygon(place(*skirt), np.asarray(tint) * 0.5)
    sprite.polygon(place((0.96, 0.55), (1, 0.55), (1, 0.7), (0.96, 0.7)), (0.95, 0.92, 0.7))
    for ((x, y),) in (place((0.2, 0.33)), place((0.8, 0.33))):
        sprite.disc(x, y, 0.33, _RUBBER)
        sprite.disc(x, y, 0.17, (0.6, 0.6, 0.62))
    return sprite


def _draw_car_end(rng, tint, ppm):
    sprite = _Sprite(1.8, rng.uniform(1.4, 1.8), ppm)
    roof, dark = sprite.height, np.asarray(tint) * 0.55
    for left in (0.1, 1.4):
        sprite.box(left, 0, left + 0.3, 0.5, _RUBBER)
    sprite.polygon([(0.1, 0.8), (1.7, 0.8), (1.45, roof), (0.35, roof)], tint)
    sprite.polygon([(0.25, 0.9), (1.55, 0.9), (1.38, roof - 0.1), (0.42, roof - 0.1)], _GLASS)
    sprite.polygon([(0, 0.25), (1.8, 0.25), (1.8, 0.8), (1.7, 0.92), (0.1, 0.92), (0, 0.8)], tint)
    sprite.box(0, 0.22, 1.8, 0.4, dark)
    lamps = _pick(rng, ((0.97, 0.94, 0.75), (0.8, 0.1, 0.08)))
    for left in (0.08, 1.37):
        sprite.box(left, 0.6, left + 0.35, 0.78, lamps)
    sprite.box(0.65, 0.42, 1.15, 0.56, (0.92, 0.92, 0.88))
    return sprite


_SKIN = ((0.93, 0.76, 0.65), (0.78, 0.57, 0.42), (0.55, 0.37, 0.26), (0.33, 0.22, 0.16))


def _draw_person(rng, tint, ppm):
    height = rng.uniform(1.2, 1.9)
    sprite = _Sprite(0.62 * height, height, ppm)
    skin, trousers = _pick(rng, _SKIN), _tint(rng, 'person')
    middle, unit = sprite.width / 2, height
    stride, swing = rng.uniform(0, 0.13), rng.uniform(0.06, 0.24)
    hip, shoulder = 0.48 * unit, 0.8 * unit
    for side in (-1, 1):
        foot = (middle + side * (0.05 + stride) * unit, 0)
        sprite.limb((middle + side * 0.05 * unit, hip), foot, 0.1 * unit, trousers)
        hand = (middle + side * swing * unit, rng.uniform(0.4, 0.75) * unit)
        sprite.limb((middle + side * 0.1 * unit, shoulder), hand, 0.065 * unit, skin)
    top, waist = 0.13 * unit, 0.1 * unit
    torso = [(middle - waist, hip), (middle + waist, hip), (middle + top, shoulder + 0.03 * unit)]
    sprite.polygon([*torso, (middle - top, shoulder + 0.03 * unit)], tint)
    if rng.random() < 0.4:
        for y in np.arange(hip + 0.04 * unit, shoulder, 0.09 * unit):
            sprite.box(middle - waist, y, middle + waist, y + 0.04 * unit, trousers)
    hair = _FAMILIES[_pick(rng, ('dark', 'brown', 'olive', 'grey'))]
    sprite.disc(middle, 0.925 * unit, 0.075 * unit, hair)
    sprite.disc(middle, 0.9 * unit, 0.062 * unit, skin)
    return sprite


def _draw_ball(rng, tint, ppm):
    radius = rng.uniform(0.25, 0.55)
    sprite = _Sprite(2 * radius, 2 * radius, ppm)
    other = _mix(_tint(rng, 'ball'), (1, 1, 1), rng.uniform(0, 0.8))
    sprite.disc(radius, radius, 0.97 * radius, tint)
    outline = sprite.mask.copy()
    _pick(rng, (_draw_ball_sectors, _draw_ball_spots))(rng, sprite, radius, other)
    sprite.mask = outline
    rows, columns = np.ogrid[: outline.shape[0], : outline.shape[1]]
    px = radius * ppm
    glow = 1 - np.hypot(rows / px - 0.65, columns / px - 1) / 1.1
    sprite.shade(0.6 * glow.astype(np.float32) - 0.1)
    return sprite


def _draw_ball_sectors(rng, sprite, radius, colour):
    start = rng.uniform(0, np.pi)
    for sector in range(3):
        angles = start + 2 * np.pi * (sector + np.linspace(0, 0.5, 6)) / 3
        rim = radius + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        sprite.polygon([(radius, radius), *rim], colour)


def _draw_ball_spots(rng, sprite, radius, colour):
    sprite.disc(radius, radius, 0.32 * radius, colour)
    start = rng.uniform(0, np.pi)
    for angle in start + 2 * np.pi * np.arange(5) / 5:
        x, y = radius * (1 + 0.8 * np.cos(angle)), radius * (1 + 0.8 * np.sin(angle))
        sprite.disc(x, y, 0.24 * radius, colour)


def _draw_sign(rng, tint, ppm):
    plate, height = rng.uniform(0.4, 0.7), rng.uniform(1.8, 2.8)
    sprite = _Sprite(2 * plate, height, ppm)
    x, y = plate, height - plate
    metal = np.array(_FAMILIES['grey']) * rng.uniform(0.6, 1.2)
    sprite.limb((x, 0), (x, y), max(0.12, 3 / ppm), metal)
    corners, turn = _pick(rng, ((3, 0.25), (3, 0.75), (4, 0), (4, 0.125), (8, 1 / 16), (24, 0)))
    angles = 2 * np.pi * (np.arange(corners) / corners + turn)
    rim = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    inside = _mix(tint, (1, 1, 1), rng.uniform(0.5, 1))
    outer, inner = (tint, inside) if rng.random() < 0.6 else (inside, tint)
    sprite.polygon((x, y) + plate * rim, outer)
    sprite.polygon((x, y) + 0.7 * plate * rim, inner)
    slope = rng.uniform(0, np.pi)
    reach = 0.4 * plate * np.array([np.cos(slope), np.sin(slope)])
    sprite.limb((x, y) - reach, (x, y) + reach, 0.22 * plate, outer)
    return sprite


def _draw_lamp_post(rng, tint, ppm):
    height, pole = rng.uniform(3.2, 5.5), max(rng.uniform(0.2, 0.32), 4 / ppm)
    sprite = _Sprite(2.4, height, ppm)
    glow = _mix((1, 0.95, 0.75), tint, rng.uniform(0, 0.5))
    sprite.box(1.2 - pole, 0, 1.2 + pole, 0.35, np.asarray(tint) * 0.8)
    sprite.limb((1.2, 0), (1.2, height - 0.25), pole, tint)
    if rng.random() < 0.5:
        sprite.disc(1.2, height - 0.42, 0.42, glow)
        sprite.box(1.2 - 0.3, height - 0.08, 1.2 + 0.3, height, tint)
        return sprite
    for side in _pick(rng, ((-1,), (1,), (-1, 1))):
        end = 1.2 + side * 1.1
        sprite.limb((1.2, height - 0.35), (end, height - 0.12), max(0.12, 3 / ppm), tint)
        sprite.limb((end - side * 0.6, height - 0.28), (end, height - 0.22), 0.2, glow)
    return sprite


def _draw_clutter(rng, tint, ppm):
    return _pick(rng, (_draw_crate, _draw_cone, _draw_rock))(rng, tint, ppm)


def _draw_crate(rng, tint, ppm):
    side = rng.uniform(0.5, 1.1)
    sprite, dark = _Sprite(side, side, ppm), np.asarray(tint) * 0.6
    sprite.box(0, 0, side, side, dark)
    sprite.box(0.1 * side, 0.1 * side, 0.9 * side, 0.9 * side, tint)
    sprite.limb((0.1 * side, 0.1 * side), (0.9 * side, 0.9 * side), 0.1 * side, dark)
    sprite.limb((0.1 * side, 0.9 * side), (0.9 * side, 0.1 * side), 0.1 * side, dark)
    return sprite


def _draw_cone(rng, tint, ppm):
    height = rng.uniform(0.6, 1.1)
    sprite, other = _Sprite(0.7 * height, height, ppm), _mix(tint, (1, 1, 1), 0.8)
    for band in range(5):
        low, high = 0.2 * band, 0.2 * (band + 1)
        left, right = 0.32 * low, 0.32 * high
        outline = [(left, low), (0.7 - left, low), (0.7 - right, high), (right, high)]
        sprite.polygon(height * np.array(outline), other if band % 2 else tint)
    return sprite


def _draw_rock(rng, tint, ppm):
    width, height = rng.uniform(0.6, 1.8), rng.uniform(0.4, 1.0)
    sprite = _Sprite(width, height, ppm)
    angles = np.linspace(0, np.pi, 8)
    reach = rng.uniform(0.75, 1, 8)
    rim = [width / 2 * (1 + reach * np.cos(angles)), height * reach * np.sin(angles)]
    sprite.polygon(np.transpose(rim), tint)
    peak = (width * rng.uniform(0.35, 0.65), height * rng.uniform(0.4, 0.7))
    sprite.polygon([np.transpose(rim)[i] for i in (2, 3, 4, 5)] + [peak], np.asarray(tint) * 1.25)
    sprite.shade(0.12 * _grain(rng, sprite.mask.shape))
    return sprite


@dataclass(frozen=True)
class _Thing:
    """How one kind of thing is drawn, how far away it is met, and where it never stands."""

    draw: object
    nearest: float
    farthest: float
    avoids: tuple = ('water',)


_THINGS = {
    'building': _Thing(_draw_building, 9, 32),
    'brick wall': _Thing(_draw_brick_wall, 6, 14),
    'fence': _Thing(_draw_fence, 3.5, 10),
    'tree': _Thing(_draw_tree, 5, 20, ('water', 'road')),
    'bush': _Thing(_draw_bush, 2.5, 10, ('water', 'road')),
    'car': _Thing(_draw_car, 4, 15),
    'person': _Thing(_draw_person, 2.5, 11, ()),
    'ball': _Thing(_draw_ball, 1.6, 5.5, ()),
    'sign': _Thing(_draw_sign, 2.6, 8),
    'lamp post': _Thing(_draw_lamp_post, 3.8, 11),
    _CLUTTER: _Thing(_draw_clutter, 2.5, 10, ()),
}


# ---------------------------------------------------------------------------------------------
# Layouts


@dataclass(frozen=True)
class _Layout:
    """What may be met in one kind of place."""

    ground: tuple  # names, one of which covers the ground
    patches: tuple  # (name, region, probability), painted over the ground in this order
    things: dict  # name -> (fewest, most)
    mountain: float = 0.0  # probability


_LAYOUTS = (
    # street
    _Layout(
        ground=('grass', 'road', 'sand'),
        patches=(('road', _strip, 1.0),),
        things={
            'building': (2, 5),
            'tree': (0, 3),
            'car': (1, 4),
            'person': (0, 3),
            'sign': (0, 2),
            'lamp post': (0, 3),
            'fence': (0, 1),
            _CLUTTER: (0, 2),
        },
        mountain=0.15,
    ),
    # square between houses
    _Layout(
        ground=('road',),
        patches=(('grass', _pool, 0.4), ('water', _pool, 0.15)),
        things={
            'building': (3, 6),
            'person': (1, 5),
            'lamp post': (0, 3),
            'sign': (0, 2),
            'car': (0, 2),
            'ball': (0, 1),
            'bush': (0, 2),
            _CLUTTER: (0, 3),
        },
    ),
    # park
    _Layout(
        ground=('grass',),
        patches=(('road', _strip, 0.5), ('water', _pool, 0.5), ('sand', _pool, 0.25)),
        things={
            'tree': (2, 7),
            'bush': (1, 5),
            'fence': (0, 2),
            'person': (0, 4),
            'ball': (0, 2),
            'lamp post': (0, 1),
            _CLUTTER: (0, 1),
        },
        mountain=0.3,
    ),
    # beach
    _Layout(
        ground=('sand',),
        patches=(('water', _beyond, 1.0),),
        things={
            'person': (1, 5),
            'ball': (0, 3),
            'fence': (0, 1),
            'sign': (0, 1),
            'bush': (0, 1),
            _CLUTTER: (0, 3),
        },
        mountain=0.35,
    ),
    # lake or river in the country
    _Layout(
        ground=('grass', 'sand'),
        patches=(('water', _across, 0.6), ('water', _beyond, 0.5), ('road', _strip, 0.3)),
        things={
            'tree': (1, 5),
            'bush': (0, 4),
            'building': (0, 1),
            'fence': (0, 2),
            'person': (0, 2),
            _CLUTTER: (0, 2),
        },
        mountain=0.8,
    ),
    # yard with a wall
    _Layout(
        ground=('road', 'grass', 'sand'),
        patches=(('grass', _pool, 0.3), ('road', _across, 0.3)),
        things={
            'brick wall': (1, 3),
            'building': (0, 2),
            'tree': (0, 3),
            'bush': (0, 3),
            'fence': (0, 1),
            'person': (0, 3),
            'ball': (0, 2),
            'car': (0, 2),
            'lamp post': (0, 1),
            'sign': (0, 1),
            _CLUTTER: (0, 2),
        },
    ),
    # road through open country
    _Layout(
        ground=('sand', 'grass'),
        patches=(('road', _strip, 0.7), ('road', _across, 0.4)),
        things={
            'car': (0, 3),
            'sign': (0, 3),
            'fence': (0, 2),
            'bush': (0, 3),
            'tree': (0, 1),
            'brick wall': (0, 1),
            _CLUTTER: (0, 1),
        },
        mountain=0.7,
    ),
)


def _choose_view(rng, size_px, sky):
    return _View(
        size_px=size_px,
        horizon_px=size_px * rng.uniform(0.22, 0.6),
        focal_px=size_px * rng.uniform(0.75, 1.1),
        camera_height=rng.uniform(1.3, 3.2),
        sun=rng.uniform(-1, 1),
        haze=rng.uniform(0, 0.6),
        haze_colour=_mix(sky, (0.85, 0.85, 0.85), 0.5).astype(np.float32),
    )


def _place_things(rng, layout, view):
    """Chooses (name, distance, column) of all things of a scene, farthest first."""
    placed = []
    for name, (fewest, most) in layout.things.items():
        thing = _THINGS[name]
        for _ in range(rng.integers(fewest, most + 1)):
            # Uniform in the logarithm: as many sizes between 1 and 2 as between 2 and 4.
            distance = math.exp(rng.uniform(math.log(thing.nearest), math.log(thing.farthest)))
            placed.append((name, distance, view.size_px * rng.uniform(-0.05, 1.05)))
    return sorted(placed, key=lambda item: -item[1])


def _may_stand(name, ground_label, column_px, foot_px):
    size = len(ground_label)
    row, column = min(int(foot_px), size - 1), min(max(int(column_px), 0), size - 1)
    return ground_label[row, column] not in [_LABEL[other] for other in _THINGS[name].avoids]


def _stand(rng, canvas, view, name, distance, column_px):
    """Draws one thing at its place, with its shadow, side light and haze."""
    sprite = _THINGS[name].draw(rng, _tint(rng, name), view.ppm(distance))
    foot_px, width = view.foot_px(distance), sprite.mask.shape[1]
    shadow = (0.6 * width + 1, max(1.5, 0.25 * view.ppm(distance)))
    canvas.darken(column_px - view.sun * 0.3 * width, foot_px, shadow, 0.45)
    sprite.shade(view.sun * np.linspace(-0.15, 0.15, width, dtype=np.float32)[None])
    amount = np.float32(view.haze * distance / 60)
    sprite.rgb += (view.haze_colour - sprite.rgb) * amount
    canvas.paste(sprite, column_px, foot_px, _LABEL[name])


def _compose(rng, size_px):
    """Paints a scene back to front."""
    layout = _pick(rng, _LAYOUTS)
    canvas = _Canvas(size_px)
    sky = _tint(rng, 'sky')
    view = _choose_view(rng, size_px, sky)
    _paint_sky(rng, canvas, view, sky)
    if rng.random() < layout.mountain:
        _paint_mountain(rng, canvas, view, _tint(rng, 'mountain'))
    ground = _Ground.seen_from(view)
    base = _pick(rng, layout.ground)
    _paint_ground(rng, canvas, ground, base, _everywhere, _tint(rng, base))
    for name, region, probability in layout.patches:
        if rng.random() < probability:
            _paint_ground(rng, canvas, ground, name, region, _tint(rng, name))
    ground_label = canvas.label.copy()
    for name, distance, column_px in _place_things(rng, layout, view):
        if _may_stand(name, ground_label, column_px, view.foot_px(distance)):
            _stand(rng, canvas, view, name, distance, column_px)
    return canvas


# ---------------------------------------------------------------------------------------------
# From paint to photograph


def _light(rng, rgb):
    """Exposure, colour cast, saturation, a gradient over the image, and soft large shadows."""
    size = len(rgb)
    steps = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + rng.uniform(-0.2, 0.2) * steps[:, None] + rng.uniform(-0.2, 0.2) * steps[None]
    if rng.random() < 0.6:
        clouds = _noise(rng, (size, size), (size / 3, size / 3))
        light *= 1 - rng.uniform(0.1, 0.4) * np.clip(2 * clouds, 0, 1)
    cast = rng.uniform(0.9, 1.4) * rng.uniform(0.9, 1.1, 3)
    grey = rgb.mean(axis=2, keepdims=True)
    rgb = grey + np.float32(rng.uniform(0.5, 1.25)) * (rgb - grey)
    return rgb * light[..., None].astype(np.float32) * cast.astype(np.float32)


def _sense(rng, rgb):
    """Lens blur and sensor noise."""
    if rng.random() < 0.5:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 0.8))
    return rgb + rng.uniform(0.003, 0.025) * rng.standard_normal(rgb.shape, np.float32)


def check_side(size):
    """Raise ValueError unless ``size`` is a multiple of 8 and at least 32."""
    check_int('size', size, 32)
    if size % 8:
        raise ValueError(f'size={size}: expected a multiple of 8')


def scene_rng(seed, split, index):
    """The random generator of one scene; it depends on nothing but these three values.

    Args:
        seed: int >= 0.
        split: name of the split, any string.
        index: int >= 0.

    Returns:
        numpy.random.Generator.
    """
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def render_scene(rng, size=128):
    """Renders one scene.

    Args:
        rng: numpy.random.Generator; equal states give equal scenes (for the same versions of
            numpy and OpenCV).
        size: height and width in pixels, a multiple of 8 and at least 32.

    Returns:
        tuple: the image, (size, size, 3) uint8, RGB; and the label, (size, size) uint8 in ADE20K's
        convention: 0 is unlabelled, k in 1..len(CLASSES) is ``CLASSES[k - 1]``.

    Raises:
        ValueError: if ``size`` is not such a number.
    """
    check_side(size)
    canvas = _compose(rng, _SUPERSAMPLING * int(size))
    rgb = cv2.resize(canvas.rgb, (size, size), interpolation=cv2.INTER_AREA)
    rgb = _sense(rng, _light(rng, rgb))
    image = np.clip(np.round(255 * rgb), 0, 255).astype(np.uint8)
    label = cv2.resize(canvas.label, (size, size), interpolation=cv2.INTER_NEAREST)
    return image, label
