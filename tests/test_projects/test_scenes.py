import cv2
import numpy as np
import pytest

from lspt_mm.errors import InputError
from projects.demo import scenes
from projects.demo.practice_data import write_photos_and_masks
from projects.demo.scenes import CLASSES, PALETTE, render_scene, scene_rng

COUNT = 200
SIZE = 64


@pytest.fixture(scope='module')
def many():
    """Images (COUNT, SIZE, SIZE, 3) and labels (COUNT, SIZE, SIZE)."""
    pairs = [render_scene(scene_rng(0, 'training', i), SIZE) for i in range(1, COUNT + 1)]
    return tuple(np.stack(arrays) for arrays in zip(*pairs, strict=True))


def files_in(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


# --- classes and single scenes


def test_classes_and_palette():
    assert 12 <= len(CLASSES) <= 16
    assert len(set(CLASSES)) == len(CLASSES) == len(PALETTE)
    assert len({tuple(colour) for colour in PALETTE}) == len(PALETTE)
    assert all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in PALETTE)


@pytest.mark.parametrize('size', [32, 72, 128])
def test_shapes_and_types(size):
    image, label = render_scene(scene_rng(0, 'training', 1), size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert label.shape == (size, size) and label.dtype == np.uint8


def test_same_seed_split_and_index_give_the_same_scene_in_any_order():
    def scene(index):
        return render_scene(scene_rng(3, 'training', index), SIZE)

    forwards = [scene(i) for i in (1, 2, 3)]
    backwards = [scene(i) for i in (3, 2, 1)][::-1]
    for (image, label), (image_again, label_again) in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(label, label_again)


@pytest.mark.parametrize('other', [(1, 'training', 1), (0, 'test', 1), (0, 'training', 2)])
def test_another_seed_split_or_index_gives_another_scene(other):
    image, _ = render_scene(scene_rng(0, 'training', 1), SIZE)
    image_other, _ = render_scene(scene_rng(*other), SIZE)
    assert (image != image_other).mean() > 0.5


def test_channels_are_rgb(many):
    # Open grass is greener than blue, and the sky's commonest family is blue, on average.
    images, labels = many
    red, green, blue = images[labels == CLASSES.index('grass') + 1].mean(axis=0)
    assert green > blue + 10 and red > blue
    red, green, blue = images[labels == CLASSES.index('sky') + 1].mean(axis=0)
    assert blue > red


# --- statistics of many scenes


def test_labels_are_in_range_and_some_pixels_are_unlabelled(many):
    _, labels = many
    assert labels.max() <= len(CLASSES)
    assert 0.001 < (labels == 0).mean() < 0.1


def test_every_class_is_met_and_none_dominates(many):
    _, labels = many
    for index, name in enumerate(CLASSES, start=1):
        found = labels == index
        assert found.any(axis=(1, 2)).mean() >= 0.05, name
        assert found.mean() <= 0.6, name
        if name != 'sky':
            assert found.any(axis=(1, 2)).mean() <= 0.9, name


def test_size_of_whole_balls_varies_at_least_fourfold(many):
    _, labels = many
    sizes = []
    for label in labels:
        mask = (label == CLASSES.index('ball') + 1).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
        for left, top, width, height, area in boxes[1:]:
            inside = min(left, top) > 0 and max(left + width, top + height) < SIZE
            # A disc fills pi/4 of its square box: neither cut nor covered.
            if inside and abs(width - height) <= 1 and area > 0.7 * width * height:
                sizes.append(height)
    assert len(sizes) > 20
    assert max(sizes) >= 4 * min(sizes)


def test_nearer_things_hide_farther_ones(monkeypatch):
    pasted, ground = [], []
    paste = scenes._Canvas.paste

    def recording_paste(canvas, sprite, centre_px, foot_px, label):
        if not pasted:
            ground.append(canvas.label.copy())
        # Placed in a wide margin, instead of cut to the canvas as `paste` does it.
        margin = 4 * canvas.size_px
        wide = np.zeros((2 * margin + canvas.size_px,) * 2, bool)
        height, width = sprite.mask.shape
        top, left = round(foot_px) - height + margin, round(centre_px - width / 2) + margin
        wide[top : top + height, left : left + width] = sprite.mask
        pasted.append((foot_px, label, wide[margin:-margin, margin:-margin]))
        paste(canvas, sprite, centre_px, foot_px, label)

    monkeypatch.setattr(scenes._Canvas, 'paste', recording_paste)
    hidden = 0
    for index in range(12):
        pasted.clear()
        ground.clear()
        _, label = render_scene(scene_rng(0, 'occlusion', index), SIZE)
        if not pasted:
            continue
        feet = np.array([foot for foot, _, _ in pasted])
        masks = np.stack([mask for _, _, mask in pasted])
        names = np.array([name for _, name, _ in pasted])
        # At each pixel, the thing whose foot is lowest in the image is the nearest.
        nearest = np.where(masks, feet[:, None, None], -1).argmax(axis=0)
        expected = np.where(masks.any(axis=0), names[nearest], ground[0])
        np.testing.assert_array_equal(label, expected[::2, ::2])
        hidden += (masks.sum(axis=0) > 1).sum()
    assert hidden > 1000


def test_label_edges_lie_on_image_edges(monkeypatch):
    # One red sprite on black, straight through rendering: red pixels are exactly its label.
    def compose(rng, size_px):
        canvas = scenes._Canvas(size_px)
        sprite = scenes._Sprite(20, 30, 1.0)
        sprite.polygon([(0, 0), (20, 0), (10, 30)], (1, 0, 0))
        canvas.paste(sprite, size_px / 2, size_px - 20, 10)
        return canvas

    monkeypatch.setattr(scenes, '_compose', compose)
    monkeypatch.setattr(scenes, '_light', lambda rng, rgb: rgb)
    monkeypatch.setattr(scenes, '_sense', lambda rng, rgb: rgb)
    image, label = render_scene(scene_rng(0, 'any', 0), SIZE)
    assert (label == 10).sum() > 50
    assert image[label == 10][:, 0].min() >= 63  # at least 1 of the 4 samples of a pixel
    assert image[label != 10][:, 0].max() <= 192  # at most 3 of them


# --- colour alone must not give the classes away


def split_pixels(many):
    """RGB and label of every 3rd labelled pixel: of the first half of the scenes, of the second."""
    images, labels = (array[:, ::3, ::3] for array in many)
    for half in (slice(COUNT // 2), slice(COUNT // 2, COUNT)):
        keep = labels[half] > 0
        yield images[half][keep].astype(np.float32), labels[half][keep]


def test_nearest_mean_colour_is_a_poor_classifier(many):
    (colours, classes), (test_colours, test_classes) = split_pixels(many)
    means = np.stack([colours[classes == k].mean(axis=0) for k in range(1, len(CLASSES) + 1)])
    guess = ((test_colours[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) + 1
    assert (guess == test_classes).mean() < 0.25


def test_the_commonest_class_of_each_colour_is_a_poor_guess(many):
    # Stronger than class means: 16 levels per channel, the likeliest class in each cell.
    (colours, classes), (test_colours, test_classes) = split_pixels(many)

    def cell(rgb):
        return (rgb // 16).astype(int) @ np.array([256, 16, 1])

    votes = np.zeros((4096, len(CLASSES) + 1), int)
    np.add.at(votes, (cell(colours), classes), 1)
    guess = votes.argmax(axis=1)[cell(test_colours)]
    assert (guess == test_classes).mean() < 0.45


# --- on disk


def test_folders_hold_the_rendered_scenes(tmp_path):
    write_photos_and_masks(tmp_path / 'data', {'train': 2, 'test': 1}, size=64, seed=5)
    names = {f'{split}/photo_{i:02d}' for split, i in (('train', 1), ('train', 2), ('test', 1))}
    assert files_in(tmp_path / 'data').keys() == {
        'classes.txt', *(f'images/{n}.jpg' for n in names), *(f'masks/{n}.png' for n in names)
    }
    colours = np.array([(0, 0, 0), *PALETTE])
    for name in names:
        split, index = name.split('/')[0], int(name[-2:])
        image, label = render_scene(scene_rng(5, split, index), 64)
        mask = cv2.imread(str(tmp_path / f'data/masks/{name}.png'))[..., ::-1]
        np.testing.assert_array_equal(mask, colours[label])
        read = cv2.imread(str(tmp_path / f'data/images/{name}.jpg'))[..., ::-1]
        assert np.abs(read.astype(int) - image).mean() < 6  # of JPEG


@pytest.mark.parametrize(('change', 'message'), [
    ({'count': 0}, '--count 0'), ({'count': {'train': 0}}, '--count 0'),
    ({'size': 33}, '--size 33'),
])
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_photos_and_masks(tmp_path / 'data', **{'count': 2, 'size': 64, **change})
    assert not (tmp_path / 'data').exists()


def test_a_folder_that_holds_something_is_kept(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(InputError, match='there is something already'):
        write_photos_and_masks(tmp_path, 2)
    assert files_in(tmp_path).keys() == {'mine.txt'}


@pytest.mark.parametrize('size', [0, 31, 100, '64', True])
def test_render_scene_refuses_bad_sizes(size):
    with pytest.raises(ValueError, match='size='):
        render_scene(scene_rng(0, 'training', 1), size)
