"""Training samples and the training loop: targets agree with the truth, runs resume, processes train together."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402
from VertebralFractureQuantLib.cli.app import app  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.networks import weights  # noqa: E402
from VertebralFractureQuantLib.networks.architectures import ARCHITECTURES  # noqa: E402
from VertebralFractureQuantLib.phantom.anatomy import draw_anatomy  # noqa: E402
from VertebralFractureQuantLib.phantom.keypoints import endplates_of, exact_keypoints  # noqa: E402
from VertebralFractureQuantLib.phantom.scanner import draw_protocol  # noqa: E402
from VertebralFractureQuantLib.spine.levels import CLASSES, LEVELS  # noqa: E402
from VertebralFractureQuantLib.training import bending, columns, tasks, train, trunks, tubes, validation  # noqa: E402
from VertebralFractureQuantLib.training.mixing import mix  # noqa: E402
from VertebralFractureQuantLib.training.stream import Stream  # noqa: E402


@pytest.fixture(scope="module")
def column():
    return columns.paint_column(np.random.default_rng(1))


@pytest.fixture(scope="module")
def trunk():
    return trunks.paint_trunk(np.random.default_rng(2))


def test_offsets_point_from_every_object_pixel_to_the_key_points(column):
    sample = columns.detector_sample(column, np.random.default_rng(3))
    row, col = np.nonzero(sample["objectness"].numpy())
    assert len(row) > 50
    pixel = np.stack([col - 64.0, row], -1)
    ends = pixel[:, None] + sample["offsets"].numpy()[:, row, col].T.reshape(-1, 6, 2)
    size = np.linalg.norm(ends[:, 0] - ends[:, 5], axis=-1)
    assert ((size > 5) & (size < 70)).all()
    assert len(np.unique(ends.round(2), axis=0)) < 20  # all pixels of a vertebra agree


def test_key_points_are_on_the_endplates_of_a_rotated_patient(monkeypatch):
    monkeypatch.setattr(columns, "TURNED_DEG", 60.0)
    column = columns.paint_column(np.random.default_rng(2))
    middles = column.keypoints[1 : len(LEVELS), 1]  # (n, 2, 2)
    up = middles[:, :1] - middles[:, 1:]
    inward = np.array([[-1], [1]]) * up / np.linalg.norm(up, axis=-1, keepdims=True)
    a, row = (middles + 1.5 * inward).reshape(-1, 2).round().astype(int).T
    bone = column.picture.numpy()[row, a + 64]
    a, row = (middles - 2 * inward).reshape(-1, 2).round().astype(int).T
    assert np.median(bone - column.picture.numpy()[row, a + 64]) > 20


def test_key_points_move_with_a_bent_image():
    """A bright spot on a key point is at the moved key point in the bent image, and stretched heights are larger."""
    rows, columns = np.indices((120, 128))
    points = np.array([[[[5.0, 40.0], [4.0, 60.0]]] * 3])  # (A, row) mm
    for seed in range(5):
        rng = np.random.default_rng(seed)
        bend = bending.draw_bend(rng, (120, 128))
        moved, stretch = bending.bent_keypoints(points, bend, 0)
        assert stretch[0, 0] == pytest.approx(np.linalg.norm(moved[0, 0, 0] - moved[0, 0, 1]) / np.hypot(1, 20))
        for end in (0, 1):
            a, row = points[0, 0, end]
            spot = np.exp(-((columns - 64 - a) ** 2 + (rows - row) ** 2) / 8)
            seen = bending.bent(torch.as_tensor(spot, dtype=torch.float32), bend).clamp_min(0).numpy()
            middle = np.array([(seen * (columns - 64)).sum(), (seen * rows).sum()]) / seen.sum()
            assert np.abs(middle - moved[0, 0, end]).max() < 0.7


def test_c2_and_vertebrae_cut_by_the_crop_are_ignored_instead_of_background(column):
    crops = [columns.detector_sample(column, np.random.default_rng(seed)) for seed in range(4)]
    ignored = [crop["weight"].numpy() == 0 for crop in crops]
    assert any(i.any() for i in ignored)
    assert not any((i & (crop["objectness"].numpy() > 0)).any() for i, crop in zip(ignored, crops, strict=True))


def test_the_curve_of_a_localizer_sample_runs_through_bone(trunk):
    bone, tissue = [], []
    for seed in range(6):
        sample = trunks.localizer_sample(trunk, np.random.default_rng(seed))
        slices = np.flatnonzero(sample["holds_spine"].numpy())
        a, r = sample["position"].numpy()[slices].round().astype(int).T
        volume = sample["volume"].numpy()
        bone.extend(volume[slices, a, r])
        tissue.append(np.median(volume[volume > -500]))
    assert np.mean(bone) > np.mean(tissue) + 40


def test_the_true_curve_of_a_tube_runs_through_bone_and_its_levels_are_in_order():
    tube = tubes.paint_tube(np.random.default_rng(5))
    assert (np.diff(tube.level) <= 0).all() and tube.level.max() == len(CLASSES) - 1
    for seed in range(4):
        sample = tubes.refiner_sample(tube, np.random.default_rng(seed))
        known = sample["level"].numpy() != tubes.UNKNOWN
        slices = np.flatnonzero(sample["holds_spine"].numpy())
        a, r = sample["position"].numpy()[slices].round().astype(int).T
        assert known[slices].all()
        assert np.median(sample["volume"].numpy()[slices, a, r]) > 0


def test_errors_in_a_crushed_vertebra_weigh_more_although_g_is_1(column):
    """If only the three heights of one vertebra are halved, only its weight increases much.

    It would double with 1/G, as in the paper.
    """
    for index in range(len(column.heights)):
        low = column.heights.copy()
        low[index] /= 2
        one, other = (
            columns.detector_sample(c, np.random.default_rng(3))["emphasis"].numpy()
            for c in (column, dataclasses.replace(column, heights=low))
        )
        gain = (other / np.maximum(one, 1e-9))[one > 0]
        if gain.max() > 1.6:
            assert np.median(gain[gain > 1.6]) == pytest.approx(1.8**columns.EMPHASIS, abs=0.6)
            assert (gain > 0.75).all()
            return
    raise AssertionError("no vertebra in view weighs more")


def test_one_detector_sample_in_three_has_thick_slices(monkeypatch):
    asked = []

    def recorded(rng, slice_mm=None):
        asked.append(slice_mm)
        return draw_protocol(rng, slice_mm)

    monkeypatch.setattr(columns, "draw_protocol", recorded)
    rng = np.random.default_rng(0)
    column = columns.paint_column(rng)
    for _ in range(60):
        columns.detector_sample(column, rng)
    thick = [mm for mm in asked if mm is not None]
    assert 0.2 < len(thick) / len(asked) < 0.5 and set(thick) <= set(columns.THICK_MM)


def test_one_detector_sample_in_five_is_of_a_patient_with_screws(monkeypatch):
    rng, seen = np.random.default_rng(0), []
    column = columns.paint_column(rng)
    monkeypatch.setattr(columns, "sagittal_bands", lambda points, tips, *_: seen.append((points, tips)) or 0.0)
    for _ in range(60):
        columns.detector_sample(column, rng)
    assert 6 < len(seen) < 21
    for _, tips in seen:
        assert 2 <= len(tips) <= 5
        assert (column.points[..., 1:].reshape(-1, 2).amin(0).numpy() - 10 < tips).all()
        assert (column.points[..., 1:].reshape(-1, 2).amax(0).numpy() + 10 > tips).all()


def test_readers_see_thicker_endplates_in_thick_slices_but_no_closed_discs():
    anatomy = draw_anatomy(np.random.default_rng(3))
    plates = endplates_of(anatomy, exact_keypoints(anatomy))
    thin, thick = (plates.shifts(draw_protocol(np.random.default_rng(1), mm)) for mm in (1.0, 4.0))
    assert (thin > 0).all() and thick[:, [0, 2]].mean() > 1.2 * thin[:, [0, 2]].mean()
    ends = plates.shifts(draw_protocol(np.random.default_rng(1), 1.0))[[0, -1], :, [0, 1], 0]
    # The first and the last endplate have no neighbour that limits the shift, which is smaller in the middle.
    assert (ends[:, 1] < 0.6 * ends[:, [0, 2]].min(1)).all()
    assert (thick[..., 0] <= 0.3 * np.maximum(plates.gaps, 0)).all()


def test_a_stream_is_seeded():
    def draw(seed):
        stream = Stream(lambda rng: float(rng.random()), lambda p, rng: p + rng.random(), seed)
        iterator = iter(stream)
        return [next(iterator) for _ in range(30)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize("role", ["localizer", "refiner", "detector"])
def test_a_run_resumes_where_it_stopped_and_its_result_loads(tmp_path, role, monkeypatch):
    quick = dataclasses.replace(train.TASKS[role], validate=lambda model, fixed: {"score": 1.0}, validated=0)
    monkeypatch.setitem(train.TASKS, role, quick)
    recipe = dataclasses.replace(train.RECIPES[role], steps=2, batch=1, workers=0, pool=1, validate_every=1)
    train.train(recipe, tmp_path, report=lambda line: None)
    lines = []
    path = train.train(dataclasses.replace(recipe, steps=3), tmp_path, report=lines.append)
    assert len(lines) == 1 and "step 3" in lines[0]
    weights.load(role, path=path)
    pytest.importorskip("onnx")
    assert weights.load_onnx(role, path)


def test_a_checkpoint_that_cannot_be_resumed_is_refused_and_kept(tmp_path, monkeypatch):
    quick = dataclasses.replace(train.TASKS["refiner"], validate=lambda model, fixed: {"score": 1.0}, validated=0)
    monkeypatch.setitem(train.TASKS, "refiner", quick)
    recipe = dataclasses.replace(train.RECIPES["refiner"], steps=0, batch=1, workers=0, pool=1)
    checkpoint = tmp_path / "checkpoint.pt"
    for content in (b"", b"no checkpoint", torch_bytes({"step": 3}), torch_bytes({"role": "detector"})):
        checkpoint.write_bytes(content)
        with pytest.raises(VFQError, match="another folder") as caught:
            train.train(recipe, tmp_path)
        assert caught.value.code == "bad_checkpoint" and checkpoint.read_bytes() == content


def quick_refiner(monkeypatch, score=1.0, **changes):
    quick = dataclasses.replace(train.TASKS["refiner"], validate=lambda model, fixed: {"score": score}, validated=0)
    monkeypatch.setitem(train.TASKS, "refiner", quick)
    return dataclasses.replace(train.RECIPES["refiner"], batch=1, workers=0, pool=1, learning_rate=1e-6, **changes)


def test_a_run_remembers_its_initial_weights_and_channels(tmp_path, monkeypatch):
    recipe = quick_refiner(monkeypatch, steps=1)
    start = tmp_path / "Jane Doe" / "refiner.safetensors"
    start.parent.mkdir()
    for suffix in (".safetensors", ".json"):
        start.with_suffix(suffix).write_bytes((weights.weights_folder() / f"refiner{suffix}").read_bytes())
    begun = dataclasses.replace(recipe, start=str(start))
    path = train.train(begun, tmp_path / "run", report=lambda line: None)
    assert "Jane" not in path.with_suffix(".json").read_text()
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    scratch = tmp_path / "scratch"
    train.train(recipe, scratch, report=lambda line: None)
    with pytest.raises(VFQError, match="from scratch") as caught:
        train.train(dataclasses.replace(begun, steps=2), scratch)
    assert caught.value.code == "bad_checkpoint"
    with pytest.raises(VFQError, match=r"8-16-32-64\b"):
        train.train(dataclasses.replace(recipe, steps=2, channels=(4, 8, 16, 32)), scratch)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    path.unlink()  # so that the next step's score is the best
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True) | {"best": 9.0}
    torch.save(checkpoint, tmp_path / "run" / "checkpoint.pt")
    train.train(dataclasses.replace(recipe, steps=2), tmp_path / "run", report=lambda line: None)
    assert json.loads(path.with_suffix(".json").read_text())["started_from"]["name"] == weights.load("refiner")[1].name


def test_a_run_that_diverges_fails_and_saves_nothing(tmp_path, monkeypatch):
    recipe = quick_refiner(monkeypatch, score=float("nan"), steps=1)
    with pytest.raises(VFQError, match="--rate") as caught:
        train.train(recipe, tmp_path / "run")
    assert caught.value.code == "diverged" and not list((tmp_path / "run").iterdir())
    endless = ARCHITECTURES["refiner"]((4, 4, 4, 4))
    next(endless.parameters()).data.fill_(1e6)  # more than half precision holds
    with pytest.raises(VFQError, match="finite"):
        weights.save(endless, "refiner", tmp_path / "endless.safetensors", {"name": "endless"})
    assert not (tmp_path / "endless.safetensors").exists()


def test_a_step_whose_gradient_is_not_finite_changes_nothing():
    model = torch.nn.Linear(1, 1)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    crew = SimpleNamespace(device="cpu", all=bool)

    def step(loss) -> float:
        task = dataclasses.replace(train.TASKS["refiner"], loss=loss, mixed=False)
        return train._step(task, model, optimizer, {"x": torch.ones(1, 1)}, crew)

    assert step(lambda m, batch: torch.sqrt(0.0 * m(batch["x"])).sum()) == 0.0  # its gradient is nan
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    step(lambda m, batch: m(batch["x"]).sum())
    assert not torch.equal(model.weight, before[0])


def test_weights_that_no_run_made_are_not_overwritten(tmp_path, monkeypatch):
    path = network(tmp_path / "refiner.safetensors", 1)
    before = path.read_bytes()
    with pytest.raises(VFQError) as caught:
        train.train(quick_refiner(monkeypatch, steps=1), tmp_path)
    assert caught.value.code == "output_exists" and path.read_bytes() == before


REFINER = str(weights.weights_folder() / "refiner.safetensors")


@pytest.mark.parametrize("command", [["train", "refiner"], ["mix", "refiner", REFINER]])
def test_a_run_that_cannot_be_written_is_refused_with_a_code(tmp_path, command):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "file")])
    assert result.exit_code == 3 and "output_not_writable" in result.stderr


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_run_starts_with_the_given_weights(tmp_path, monkeypatch):
    quick = dataclasses.replace(train.TASKS["refiner"], validate=lambda model, fixed: {"score": 1.0}, validated=0)
    monkeypatch.setitem(train.TASKS, "refiner", quick)
    recipe = dataclasses.replace(train.RECIPES["refiner"], steps=1, batch=1, workers=0, pool=1, learning_rate=0)
    shipped, stamp = weights.load("refiner")
    for start in (train.SHIPPED, str(weights.weights_folder() / "refiner.safetensors")):
        path = train.train(dataclasses.replace(recipe, start=start), tmp_path / start[-7:], report=lambda line: None)
        trained, _ = weights.load("refiner", path=path)
        for old, new in zip(shipped.parameters(), trained.parameters(), strict=True):
            torch.testing.assert_close(new, old)
        assert json.loads(path.with_suffix(".json").read_text())["started_from"]["sha256"] == stamp.sha256
    with pytest.raises(VFQError) as caught:
        train.train(dataclasses.replace(recipe, start=str(tmp_path / "none.safetensors")), tmp_path / "none")
    assert caught.value.code == "bad_weights" and not list((tmp_path / "none").iterdir())


def test_a_run_from_scratch_has_the_given_channels():
    recipe = dataclasses.replace(train.RECIPES["detector"], channels=(4, 6, 8, 10, 12))
    model, origin = train._begin(recipe)
    assert model.channels == recipe.channels and origin is None


OTHERS, TOO_FEW, NONE = (train.SHIPPED, (9, 16, 32, 64)), (None, (8, 16)), (None, (8, 16, 0, 64))


@pytest.mark.parametrize(("start", "channels"), [OTHERS, TOO_FEW, NONE])
def test_channels_that_do_not_fit_are_refused(tmp_path, start, channels):
    recipe = dataclasses.replace(train.RECIPES["refiner"], steps=1, start=start, channels=channels)
    with pytest.raises(VFQError) as caught:
        train.train(recipe, tmp_path)
    assert caught.value.code == "bad_channels" and not list(tmp_path.iterdir())


def network(path, seed, channels=(4, 4, 4, 4)):
    torch.manual_seed(seed)
    weights.save(ARCHITECTURES["refiner"](channels), "refiner", path, {"name": f"seed {seed}"})
    return path


def test_a_mixture_is_the_weighted_mean_and_names_its_parts(tmp_path):
    parts = [network(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    path = mix("refiner", parts, (1, 3), tmp_path / "mixed", report=lambda line: None)
    one, other, mean = (weights.load("refiner", path=p)[0].state_dict() for p in (*parts, path))
    for name, value in ((n, v) for n, v in mean.items() if v.is_floating_point()):
        torch.testing.assert_close(value, one[name] * 0.25 + other[name] * 0.75, rtol=1e-3, atol=1e-3)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    card = json.loads(path.with_suffix(".json").read_text())
    assert [(m["name"], m["share"]) for m in card["mixture"]] == [("seed 1", 1), ("seed 2", 3)]


@pytest.mark.parametrize("shares", [(1,), (1, 0), (1, -1), (1, float("nan")), (1, float("inf")), (1e308, 1e308)])
def test_invalid_shares_are_refused(tmp_path, shares):
    parts = [network(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    with pytest.raises(VFQError) as caught:
        mix("refiner", parts, shares, tmp_path / "mixed")
    assert caught.value.code == "bad_shares" and not (tmp_path / "mixed").exists()


def test_networks_of_different_channels_are_not_mixed(tmp_path):
    parts = [network(tmp_path / "1.safetensors", 1), network(tmp_path / "2.safetensors", 2, (4, 4, 4, 8))]
    with pytest.raises(VFQError) as caught:
        mix("refiner", parts, (1, 1), tmp_path / "mixed")
    assert caught.value.code == "bad_weights" and not (tmp_path / "mixed").exists()


def test_no_run_trains_on_a_phantom_of_the_validation():
    """This holds for every seed, even if it is one of the validation's, as seed 1 is after 9000 steps."""
    task = dataclasses.replace(train.TASKS["detector"], paint=lambda rng: rng.random(), sample=lambda p, rng: p)
    fixed = set(tasks.validation_set(task))
    assert len(fixed) == task.validated > 0
    for seed in (*range(task.validated), *(tasks.VALIDATION_SEED + i for i in range(task.validated))):
        stream = iter(Stream(task.paint, task.sample, (seed, 0), pool=3, reuse=1))
        assert not fixed & {next(stream) for _ in range(3)}


CREW = """
import sys, torch
from VertebralFractureQuantLib.training.crew import joined

def member(crew):
    assert crew.size == 2 and crew.leads == (crew.rank == 0)
    assert crew.all(True) and not crew.all(crew.leads)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    together = crew.together(model)
    together(torch.full((1, 3), 1.0 + 2.0 * crew.rank)).sum().backward()
    torch.save(model.weight.grad, f"{sys.argv[1]}/{crew.rank}.pt")

with joined("cpu") as crew:
    member(crew)
"""


def test_the_gradients_of_a_crew_are_the_mean_over_its_processes(tmp_path):
    script = tmp_path / "crew.py"
    script.write_text(CREW)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([*launcher, str(script), str(tmp_path)], check=True, timeout=300, env=environment)
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), torch.full((1, 3), 2.0))


def test_each_process_of_a_crew_paints_other_phantoms():
    def draw(rank):
        return next(iter(Stream(lambda rng: float(rng.random()), lambda p, rng: p, (1, rank))))

    assert draw(0) == draw(0) != draw(1)


def test_the_places_of_key_points_agree_with_the_offsets(column):
    for seed in range(3):
        sample = columns.detector_sample(column, np.random.default_rng(seed))
        by_offsets = np.array(validation.true_keypoints(sample)).reshape(-1, 6, 2) + (64, 0)  # (column, row)
        known = sample["places"].numpy()[sample["known"].numpy().min(1) > 0][..., ::-1]
        assert len(by_offsets) == len(known) > 2
        assert np.abs(by_offsets[:, None] - known).max((2, 3)).min(1).max() < 0.01


def test_the_places_move_with_the_columns_that_a_step_uses():
    """The network's maps are the image itself with one bright spot; the loss is lowest if the points are on it."""
    row, column = np.indices((columns.ROWS, columns.COLUMNS))
    picture = 1000 * np.exp(-((row - 80) ** 2 + (column - 70) ** 2) / 8)
    plain = dict.fromkeys(("objectness", "weight", "emphasis"), torch.zeros(1, *picture.shape))
    offsets, known = torch.zeros(1, 12, *picture.shape), torch.ones(1, 1, 6)

    def loss(place):
        batch = {"picture": torch.as_tensor(picture)[None].float(), "offsets": offsets, **plain}
        torch.manual_seed(4)
        network = lambda x: (torch.zeros(1, 13, *x.shape[2:]), 9 * x.expand(-1, 6, -1, -1))  # noqa: E731
        places = torch.tensor(place).expand(1, 1, 6, 2)
        return float(tasks.detector_step_loss(network, {**batch, "places": places, "known": known}))

    assert loss((80.0, 70.0)) + 0.5 < min(loss((80.0, 66.0)), loss((80.0, 74.0)), loss((76.0, 70.0)))
