"""The synthetic picture of a vertebra before its fracture: its frame, its losses, what is shown, and the command."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.methods import healthy_frame as frames
from VertebralFractureQuantLib.methods.healthy_loss import at_points, column_heights, thirds
from VertebralFractureQuantLib.methods.healthy_picture import (
    Healer,
    graded,
    healthy_picture,
    load_healer,
    picture_json,
    straight_image,
    vertebra_picture,
)
from VertebralFractureQuantLib.report.healthy_sheet import (
    MARK,
    SYNTHETIC,
    draw_sheet,
    grade_text,
    loss_text,
)
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.report.schemas import schema
from VertebralFractureQuantLib.spine.genant import GRADES, measure_column
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra

STAMP = ModelStamp("healthy", "fake", "0" * 64)
DEEP, TALL, DISC = 30.0, 24.0, 5.0
STRETCH = 12.0  # the first vertebra begins so far below the curve's upper end


def body(top: float, front: float = TALL, middle: float | None = None, back: float = TALL) -> np.ndarray:
    """Return key points `(3, 2, 2)` (A, row) of a body whose upper endplate is level at the row `top`."""
    tall = (front, (front + back) / 2 if middle is None else middle, back)
    return np.array([[(a, top), (a, top + h)] for a, h in zip((DEEP / 2, 0.0, -DEEP / 2), tall, strict=True)])


def column(count: int = 7, broken: int | None = None, front: float = 0.5 * TALL) -> np.ndarray:
    """Return key points of equal bodies; the one at `broken` is a wedge."""
    points = [body(STRETCH + i * (TALL + DISC)) for i in range(count)]
    if broken is not None:
        points[broken] = body(points[broken][0, 0, 1], front, (front + TALL) / 2)
    return np.array(points)


def painted(points: np.ndarray) -> np.ndarray:
    """Return the straightened image `(rows, 128)` HU of these bodies."""
    rows = int(points[..., 1].max()) + 14
    image = np.full((rows, 128), 40.0)
    for each in points:
        mask = frames.body_mask(each, 0, rows, 32)
        image[:, 32 : 32 + frames.COLUMNS] += 260 * mask
    return image


class Painter:
    """A generator that draws a rectangular body of given heights, whatever it sees; it keeps what it saw."""

    device, backend = "cpu", "fake"

    def __init__(self, tall: float = TALL, deep: float = DEEP):
        self.tall, self.deep, self.seen = tall, deep, []

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return images `(b, 4, ROWS, COLUMNS)` and heights `(b, 2)`."""
        self.seen.append(x)
        middle = frames.OUTSIDE + frames.BAND / 2
        points = np.array(
            [[(a, middle - self.tall / 2), (a, middle + self.tall / 2)] for a in (self.deep / 2, 0, -self.deep / 2)]
        )
        mask = frames.body_mask(points, 0, frames.ROWS, 64 - frames.COLUMNS // 2)
        images = np.zeros((len(x), 4, frames.ROWS, frames.COLUMNS), np.float32)
        images[:, 2], images[:, 3] = 0.4 * mask, np.where(mask > 0.5, 12.0, -12.0)
        return images, np.full((len(x), 2), self.tall + 2 * frames.MARGIN + 1, np.float32)


def record(points: np.ndarray) -> tuple[SpineAnalysis, CTVolume]:
    """Return the record of a straight spine with these key points (A, row), and its CT at 1 mm."""
    image = painted(points)
    rows = len(image)
    voxels = np.repeat(image[::-1, ::-1, None].astype(np.int16), 41, axis=2)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:3, 3] = (20.0, 63.0, -(rows - 1.0))
    curve = np.array([[0.0, 0.0, -s] for s in np.arange(0, rows - 1 + 1e-6)])
    ras = np.stack([np.zeros(points.shape[:-1]), points[..., 0], -points[..., 1]], -1)
    names = [f"T{i + 5}" for i in range(len(points))]
    vertebrae = tuple(Vertebra(k, m, level=name) for k, m, name in zip(ras, measure_column(ras), names, strict=True))
    analysis = SpineAnalysis(
        case="straight", shape=voxels.shape, spacing_mm=(1.0, 1.0, 1.0), ijk_to_ras=matrix, curve=curve,
        limits_mm=(0.0, float(rows - 1)), vertebrae=vertebrae,
    )  # fmt: skip
    return analysis, CTVolume(voxels, matrix, "straight")


# --- the frame


def test_the_frame_does_not_tell_how_tall_the_hidden_vertebra_is():
    whole, wedge = column(), column(broken=3)
    flat = whole.copy()
    flat[3, :, 1, 1] -= 10  # a crush of 10 mm; what lies below moves up with it
    flat[4:, ..., 1] -= 10
    seen = [frames.frame_of(painted(points), points, 3).channels for points in (whole, flat)]
    assert np.allclose(seen[0], seen[1], atol=1e-6)
    band = seen[0][1].astype(bool)
    assert band.sum() == frames.BAND * frames.COLUMNS and not seen[0][0][band].any()
    assert (seen[0][2][band] == 1).all()
    assert frames.hidden_rows(wedge[3]) == frames.hidden_rows(whole[3])  # the wedge's back is as tall as before


def test_attention_leaves_out_a_crushed_neighbour_and_nothing_else():
    points = column(broken=2, front=0.4 * TALL)
    frame = frames.frame_of(painted(points), points, 3)
    first = frame.rows[0]
    rows = np.arange(first - frames.OUTSIDE, first)
    at = frame.attention[: frames.OUTSIDE]
    broken = (rows >= points[2, ..., 1].min()) & (rows <= points[2, ..., 1].max())
    assert broken.sum() > 10 and (at[broken] == 0).all()
    assert (at[rows < points[1, ..., 1].max()] == 1).all()
    assert (frame.attention[-frames.OUTSIDE :] == 1).all()


@pytest.mark.parametrize("tilt", [0.0, 0.15])
def test_the_heights_of_a_bodys_columns_are_the_distances_of_its_endplates(tilt):
    points = body(40.3, front=17.7, middle=16.0, back=22.4)
    points[..., 1] += tilt * points[..., 0]
    columns = column_heights(frames.body_mask(points, 20, 60, 32))
    across = np.arange(32, 32 + frames.COLUMNS) - 64.0
    upper, lower = frames.endplate_rows(points, across)
    inner = np.abs(across) < DEEP / 2 - 3
    assert np.abs(columns - (lower - upper))[inner].max() < 0.05
    assert columns[np.abs(across) > DEEP / 2 + 4].max() < 0.01


def test_a_place_outside_of_the_image_is_air():
    image = np.zeros((50, 128))
    part = frames.crop(image, -3, 60, 100)
    assert (part[:3] == -1000).all() and (part[53:] == -1000).all() and (part[:, 28:] == -1000).all()
    assert not part[3:53, :28].any()


# --- the loss


def test_the_loss_of_each_third_is_measured_against_the_synthetic_body():
    points = column(broken=3)
    picture = healthy_picture(Healer(Painter(), None, STAMP), painted(points), points, 3)
    lost = 0.5 * np.array([5 / 6, 1 / 2, 1 / 6])  # a wedge that has lost half of its front
    assert np.allclose(picture.loss, lost, atol=0.03)
    assert np.allclose(picture.synthetic_mm, TALL, atol=0.05)
    assert np.allclose(picture.real_mm, TALL * (1 - lost), atol=0.5)
    assert np.allclose(at_points(column_heights(picture.synthetic_mask), column_heights(picture.real_mask)),
                       [0.5, 0.25, 0.0], atol=0.05)  # fmt: skip


def test_a_vertebra_that_is_taller_than_its_synthetic_body_has_a_negative_loss():
    points = column()
    picture = healthy_picture(Healer(Painter(0.8 * TALL), None, STAMP), painted(points), points, 3)
    assert np.allclose(picture.loss, 1 - 1 / 0.8, atol=0.02)


def test_the_restored_picture_is_as_much_taller_as_the_network_says():
    points = column()
    points[3, :, 1, 1] -= 10
    points[4:, ..., 1] -= 10
    picture = healthy_picture(Healer(Painter(), None, STAMP), painted(points), points, 3)
    assert len(picture.synthetic) - len(picture.real) == 10
    whole = column()
    truth = frames.crop(painted(whole), frames.hidden_rows(whole[3])[0] - frames.OUTSIDE, len(picture.synthetic), 32)
    known = np.r_[: frames.OUTSIDE, len(truth) - frames.OUTSIDE : len(truth)]
    assert np.abs(picture.synthetic - truth)[known].max() < 1


def test_a_generator_that_draws_nothing_is_refused():
    points = column()
    with pytest.raises(VFQError) as refusal:
        healthy_picture(Healer(Painter(2.0, 3.0), None, STAMP), painted(points), points, 3)
    assert refusal.value.code == "no_synthetic_body"


def test_walls_and_thin_columns_are_in_no_third():
    mask = frames.body_mask(body(60), 0, 140, 32)
    mask[70:74, :16] = 1  # a thin bridge behind
    split = thirds(column_heights(mask), column_heights(mask))
    assert split is not None and np.allclose(split[0], TALL, atol=0.05)
    assert thirds(np.zeros(64), np.zeros(64)) is None and at_points(np.zeros(64), np.zeros(64)) is None


def test_the_grade_by_loss_is_that_of_the_support_vector_machine():
    sklearn = pytest.importorskip("sklearn.svm")
    from VertebralFractureQuantLib.training.healthy_export import fit_grader

    rng = np.random.default_rng(1)
    classes = rng.integers(0, 4, 400)
    losses = 0.15 * classes[:, None] + rng.normal(0, 0.04, (400, 3))
    grader = fit_grader(losses, [GRADES[c] for c in classes])
    scaled = (losses - grader["mean"]) / np.array(grader["scale"])
    machine = sklearn.SVC(kernel="linear", class_weight="balanced").fit(scaled, classes)
    found = [graded(grader, loss) for loss in losses]
    assert np.mean([f == GRADES[c] for f, c in zip(found, machine.predict(scaled), strict=True)]) > 0.99
    assert graded(None, losses[0]) is None
    with pytest.raises(ValueError, match="all grades"):
        fit_grader(losses[:2], ["normal", "normal"])


# --- the case


def test_the_case_gives_the_same_picture_from_its_ct_and_from_its_stored_volume(tmp_path):
    from VertebralFractureQuantLib.report.healthy_sheet import ct_sampler, stored_sampler

    analysis, ct = record(column(broken=3))
    folder = write_outputs(analysis, ct, tmp_path)
    healer = Healer(Painter(), None, STAMP)
    pictures = [
        vertebra_picture(healer, analysis, 3, sample)
        for sample in (ct_sampler(ct, analysis), stored_sampler(folder, analysis))
    ]
    assert np.allclose(pictures[0].loss, pictures[1].loss, atol=1e-6)
    assert np.abs(pictures[0].real - pictures[1].real)[3:-3].max() < 2
    assert np.allclose(pictures[0].loss, 0.5 * np.array([5 / 6, 1 / 2, 1 / 6]), atol=0.03)
    image = straight_image(ct_sampler(ct, analysis), len(analysis.curve) - 1.0)
    assert np.abs(image - painted(column(broken=3)))[2:-2, 2:-2].max() < 1


def test_neighbours_that_do_not_count_are_left_out_and_one_vertebra_alone_is_refused():
    from VertebralFractureQuantLib.report.healthy_sheet import ct_sampler

    analysis, ct = record(column(broken=2, front=0.4 * TALL))
    reviews = ["rejected" if i == 2 else "open" for i in range(len(analysis.vertebrae))]
    rejected = replace(
        analysis, vertebrae=tuple(replace(v, review=r) for v, r in zip(analysis.vertebrae, reviews, strict=True))
    )
    painter = Painter()
    vertebra_picture(Healer(painter, None, STAMP), analysis, 3, ct_sampler(ct, analysis))
    vertebra_picture(Healer(painter, None, STAMP), rejected, 3, ct_sampler(ct, analysis))
    assert painter.seen[0][0, 2].min() == 0 and painter.seen[1][0, 2].min() == 1
    alone = replace(analysis, vertebrae=analysis.vertebrae[:1])
    with pytest.raises(VFQError) as refusal:
        vertebra_picture(Healer(painter, None, STAMP), alone, 0, ct_sampler(ct, analysis))
    assert refusal.value.code == "no_neighbour"


def test_everything_that_is_shown_says_that_the_picture_is_synthetic():
    points = column(broken=3)
    grader = {"mean": [0] * 3, "scale": [1] * 3, "coef": [[0] * 3] * 6, "intercept": [-1, -1, -1, 1, 1, 1]}
    picture = healthy_picture(Healer(Painter(), grader, STAMP), painted(points), points, 3)
    sheet = np.asarray(draw_sheet("T8", picture))
    marked = (np.abs(sheet.astype(int) - SYNTHETIC) < 12).all(-1)
    half = sheet.shape[1] // 2
    assert marked[:, half:].sum() > 400 and not marked[:, : half - 8].any()  # frame, words and outline: right only
    assert MARK == "SYNTHETIC"
    assert loss_text(picture) == "Loss against the synthetic body: anterior 42 %, middle 26 %, posterior 9 %"
    assert grade_text(picture).startswith("Grade by this loss alone: mild.")
    unsure = replace(picture, loss_sd=(0.5, 0.3, 0.1))
    assert loss_text(unsure).endswith("anterior 42 ± 50 %, middle 26 ± 30 %, posterior 9 ± 10 %")
    assert grade_text(unsure).startswith("No loss is larger than the error of the picture.")
    assert grade_text(replace(picture, loss_sd=(0.3, 0.3, 0.3))) == grade_text(picture)
    analysis, _ = record(points)
    document = picture_json(analysis, "T8", picture, STAMP)
    assert document["synthetic"] is True
    Draft202012Validator(schema("vfq-healthy/1")).validate(document)


def test_without_pillow_the_message_says_what_to_install(monkeypatch):
    import sys

    from VertebralFractureQuantLib.report.healthy_sheet import sheet_png

    monkeypatch.setitem(sys.modules, "PIL", None)
    points = column(broken=3)
    picture = healthy_picture(Healer(Painter(), None, STAMP), painted(points), points, 3)
    with pytest.raises(VFQError, match="pip install pillow") as refusal:
        sheet_png("T8", picture)
    assert refusal.value.code == "missing_dependency"


# --- the command


def test_the_command_writes_the_picture_and_its_numbers(tmp_path, monkeypatch):
    from PIL import Image
    from VertebralFractureQuantLib.cli import app as cli

    monkeypatch.setattr(
        "VertebralFractureQuantLib.methods.healthy_picture.load_healer", lambda: Healer(Painter(), None, STAMP)
    )
    analysis, ct = record(column(broken=3))
    folder = write_outputs(analysis, ct, tmp_path)
    target = tmp_path / "t.png"
    done = CliRunner().invoke(cli.app, ["healthy", str(folder), "--output", str(target)])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["level"] == "T8" and document["loss"][0] == pytest.approx(0.417, abs=0.03)
    assert Image.open(io.BytesIO(target.read_bytes())).size[0] > 600
    assert "anterior 4" in done.output and "Not for diagnosis" in done.output
    again = CliRunner().invoke(cli.app, ["healthy", str(folder), "--output", str(target)])
    assert again.exit_code == 3 and "output_exists" in again.output
    other = CliRunner().invoke(cli.app, ["healthy", str(folder), "--level", "t5", "--output", str(tmp_path / "o.png")])
    assert other.exit_code == 0 and json.loads((tmp_path / "o.json").read_text())["level"] == "T5"
    taken = CliRunner().invoke(cli.app, ["healthy", str(folder), "--output", str(tmp_path / "p.json")])
    assert taken.exit_code == 2 and ".png" in taken.output  # the name of its JSON file
    wrong = CliRunner().invoke(cli.app, ["healthy", str(folder), "--level", "L9"])
    assert wrong.exit_code == 3 and "Give one of T5, T6" in wrong.output
    (folder / "straightened.nrrd").unlink()
    without = CliRunner().invoke(cli.app, ["healthy", str(folder), "--output", str(tmp_path / "n.png")])
    assert without.exit_code == 3 and "Give the scan with --ct" in without.output
    nothing = CliRunner().invoke(cli.app, ["healthy", str(tmp_path / "none")])
    assert nothing.exit_code == 3 and "not_found" in nothing.output


def test_a_vertebra_without_a_level_is_chosen_by_the_name_in_the_tables():
    from VertebralFractureQuantLib.cli.healthy import chosen

    analysis, _ = record(column(broken=3))
    unnamed = replace(analysis, vertebrae=tuple(replace(v, level=None) for v in analysis.vertebrae))
    assert chosen(unnamed, "v2") == 1
    with pytest.raises(VFQError, match="Give one of V1, V2"):
        chosen(unnamed, "T8")


# --- training


torch = pytest.importorskip("torch")


def test_the_healed_twin_is_the_same_patient_before_the_fractures():
    from VertebralFractureQuantLib.training.healthy_data import patient

    broken, healed = patient(41001, 0.4), patient(41001, 0.4, healed=True)
    kinds = [b.fracture for b in broken.anatomy.bodies]
    assert sum(k is not None for k in kinds) >= 3 and not any(b.fracture for b in healed.anatomy.bodies)
    tall = [np.linalg.norm(p.points[:, :, 0] - p.points[:, :, 1], axis=-1) for p in (broken, healed)]
    part = tall[0] / tall[1]
    whole = np.array([k is None for k in kinds[1:23]])
    assert np.abs(part[whole] - 1).max() < 0.02 and (part[~whole].min(1) < 0.93).all()
    assert broken.protocol == healed.protocol


def test_a_training_frame_hides_what_the_network_has_to_find(monkeypatch):
    from VertebralFractureQuantLib.training import healthy_data
    from VertebralFractureQuantLib.training.healthy_batches import as_batch, network_input, unwidened_input
    from VertebralFractureQuantLib.training.healthy_data import sample
    from VertebralFractureQuantLib.training.healthy_losses import Parts

    monkeypatch.setattr(healthy_data, "CUT_SHARE", 0.0)
    short = column()
    short[3, :, 1, 1] -= 8
    short[4:, ..., 1] -= 8
    made = [sample(painted(p), p, 3, np.random.default_rng(3)) for p in (column(), short)]
    assert all(m is not None for m in made)
    batch = as_batch(made)
    x = network_input(batch, Parts())
    assert torch.equal(x[0], x[1]) and batch["height"].tolist() == [29.0, 21.0]
    assert not torch.equal(unwidened_input(batch, Parts())[0], unwidened_input(batch, Parts())[1])
    tall = batch["target"].sum(2).amax(2)[:, 0]
    assert tall.tolist() == pytest.approx([TALL, TALL - 8], abs=0.1)
    seen = frames.frame_of(painted(column()), column(), 3).channels
    assert np.abs(x[0].numpy() - seen).max() < 0.01


def test_the_edges_give_the_generator_a_gradient():
    from VertebralFractureQuantLib.training.healthy_losses import edge_loss

    true = torch.as_tensor(frames.body_mask(body(60), 0, 160, 32), dtype=torch.float32)[None, None]
    logits = (4 * true - 2 + torch.randn_like(true)).requires_grad_(True)
    loss = edge_loss(torch.sigmoid(logits), true)
    loss.backward()
    assert loss > 0 and logits.grad is not None and logits.grad.abs().sum() > 0
    assert float(edge_loss(true, true)) == 0


def test_a_run_learns_keeps_its_best_weights_and_its_graph_agrees(tmp_path):
    pytest.importorskip("onnx")
    from VertebralFractureQuantLib.training.healthy_data import sample
    from VertebralFractureQuantLib.training.healthy_export import add_to_card, export_generator
    from VertebralFractureQuantLib.training.healthy_losses import Parts
    from VertebralFractureQuantLib.training.healthy_train import HealthyRecipe, train_healthy

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    made = [sample(painted(column()), column(), i, rng) for i in (2, 3, 4)]
    stored = tmp_path / "frames"
    stored.mkdir()
    np.savez(stored / "p1.npz", **{k: np.stack([m[k] for m in made]) for k in made[0]})
    told: list[str] = []
    recipe = HealthyRecipe(steps=4, batch=2, validate_every=2, parts=Parts(adversarial=True))
    path = train_healthy(recipe, stored, {"phantom": made}, tmp_path / "run", "three bodies", told.append)
    assert len(told) == 2 and "phantom_dice" in told[0] and "loss_adversarial" in told[0]
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3
    export_generator(path)
    add_to_card(path, grader=None)
    healer = load_healer(path, threads=1)
    assert healer.stamp.name == "healthy-1" and healer.grader is None
    images, heights = healer.predict(frames.frame_of(painted(column()), column(), 3).channels[None])
    assert images.shape == (1, 4, frames.ROWS, frames.COLUMNS) and heights.shape == (1, 2)
    path.with_suffix(".onnx").unlink()
    with pytest.raises(VFQError) as refusal:
        load_healer(path)
    assert refusal.value.code == "bad_weights"


# --- the shipped weights


def test_the_shipped_generator_restores_a_wedge_and_leaves_an_intact_vertebra():
    from VertebralFractureQuantLib.training.healthy_data import painted as phantom
    from VertebralFractureQuantLib.training.healthy_data import patient

    healer = load_healer(threads=1)
    assert healer.grader is not None
    image, healed = phantom(42002, 0.25), patient(42002, 0.25, healed=True)
    tall = [np.linalg.norm(k[:, :, 0] - k[:, :, 1], axis=-1) for k in (image.keypoints, healed.keypoints)]
    lost = (1 - tall[0] / tall[1]).max(1)
    inside = range(2, len(lost) - 2)
    intact = [i for i in inside if lost[i] < 0.02]
    broken = [i for i in inside if lost[i] > 0.25]
    assert len(intact) >= 4 and broken
    found = {i: healthy_picture(healer, image.picture, image.keypoints, i).loss for i in (*intact, *broken)}
    assert np.median([np.abs(found[i]).max() for i in intact]) < 0.2
    assert all(found[i].max() > 0.12 for i in broken)


def test_the_weights_are_small():
    from VertebralFractureQuantLib.networks.weights import weights_folder

    files = [p for p in Path(weights_folder()).glob("healthy.*")]
    assert {p.suffix for p in files} == {".json", ".onnx", ".safetensors"}
    assert sum(p.stat().st_size for p in files) < 4e6
