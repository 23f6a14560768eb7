import pytest

from teddy.report.comparison import compare
from teddy.report.runs import read_runs
from teddy.report.sentences import notes, sentences


@pytest.fixture
def of(tmp_path, make_run):
    """The sentences on one run with these rows."""
    count = iter(range(100))

    def make(rows, find=sentences):
        return find(compare(read_runs([make_run(tmp_path / f"one{next(count)}", rows)])))

    return make


@pytest.mark.parametrize(
    ("ours", "real", "verdict"),
    [
        # Both deviations are 1, so the combined spread is sqrt(2).
        ([61.0, 62.0, 63.0], [59.0, 60.0, 61.0], "beats random real images by 2.0 points, more than the spread of 1.4"),
        ([61.0, 62.0, 63.0], [60.0, 61.0, 62.0], "differ by no more than the spread of 1.4"),
        ([60.0, 61.0, 62.0], [61.0, 62.0, 63.0], "differ by no more than the spread of 1.4"),
        (
            [59.0, 60.0, 61.0],
            [61.0, 62.0, 63.0],
            "does not beat random real images here: 60.0 ± 1.0 against 62.0 ± 1.0",
        ),
    ],
)
def test_the_verdict_depends_on_the_spread(of, students, ours, real, verdict):
    (sentence,) = of(students("ours", ours) + students("real", real))
    assert verdict in sentence
    assert sentence.startswith("toy, IPC 10, convnet3, protocol paper, stored labels: Ours ")
    assert "hint" not in sentence


def test_few_seeds_and_a_missing_baseline_have_a_sentence(of, students):
    (two,) = of(students("ours", [60.0, 60.1]) + students("real", [50.0, 50.1]))
    assert "Fewer than 3 seeds" in two
    (one,) = of(students("ours", [60.0]) + students("real", [50.0]))
    assert "single run" in one
    assert "spread is unknown" in one
    (alone,) = of(students("ours", [60.0, 61.0, 62.0]))
    assert "stands without a baseline" in alone
    assert of(students("real", [1.0])) == []


def test_the_first_method_is_compared_with_each_other_one(of, students):
    rows = [row for name in ("new", "real", "other", "ours") for row in students(name, [1.0, 2.0, 3.0])]
    first, second, third = of(rows)
    assert "New and random real images differ" in first
    assert "New and the other method differ" in second
    assert "New and Ours differ" in third


def test_different_labels_protocols_students_and_sizes_are_never_compared(of, students):
    changes = [{}, {"labels": "online"}, {"protocol": "modern"}, {"student": "vgg"}, {"ipc": 1}, {"dataset": "x"}]
    rows = [row for change in changes for row in students("ours", [2.0], **change)]
    found = of(rows + students("real", [1.0], labels="hard"))
    assert len(found) == 6
    assert all("stands without a baseline" in sentence for sentence in found)


def test_the_effect_of_a_key_is_measured_by_the_spread(teachers_sweep):
    (sentence,) = sentences(compare(read_runs([teachers_sweep])))
    # sqrt(1 + 1) = 1.4
    assert sentence == (
        "protocol paper, stored labels: Ours is best at synthesis.teachers_per_block 2 (54.0 ± 1.0) and worst at 1 "
        "(51.0 ± 1.0): 3.0 points, more than the spread of 1.4."
    )


def test_unequal_settings_are_compared_only_where_there_are_no_equal_ones(tmp_path, make_run, students):
    for job, others in enumerate((["other"], ["real", "other"], [])):
        rows = [row for name in ("ours", *others) for row in students(name, [50.0, 51.0, 52.0], f"{job}")]
        make_run(tmp_path / str(job), rows, {"synthesis": {"initial": f"i{job}"}}, {"synthesis.initial": f"i{job}"})
    found = [line.partition("initial ")[2] for line in sentences(compare(read_runs([tmp_path])))]
    assert [(line[:2], "the other method" in line) for line in found] == [("i0", True), ("i1", True), ("i1", False)]
    assert not any("not named as the cause" in line for line in found)


def test_where_two_keys_change_together_neither_is_the_cause(sweep_of):
    """As in the windows of teachers of Fig. 2c, where the first and the last teacher move."""
    found = sweep_of(
        "pool.first",
        {1: [50.0, 51.0, 52.0], 11: [60.0, 61.0, 62.0], 21: [55.0, 56.0, 57.0]},
        settings=lambda job: {"pool": {"first": 1 + 10 * job, "last": 9 + 10 * job, "label": f"follows {job}"}},
        record=lambda job: {"overrides": {"pool.first": 1 + 10 * job, "pool.last": 9 + 10 * job}},
    )
    (sentence,) = sentences(found)
    assert sentence == (
        "protocol paper, stored labels: Ours is 61.0 ± 1.0 with pool.first 11, pool.last 19 and 51.0 ± 1.0 with pool.first 1, "
        "pool.last 9; as more than one key differs, none is named as the cause."
    )


def test_which_other_methods_a_run_had_is_no_cause(sweep_of, students):
    found = sweep_of(
        "evaluation.epochs",
        {300: [50.0, 51.0, 52.0], 1000: [60.0, 61.0, 62.0]},
        settings=lambda job: {"evaluation": {"epochs": (300, 1000)[job]}},
        record=lambda job: {
            "overrides": {"evaluation.epochs": (300, 1000)[job], "method": ("[ours,real]", "[ours]")[job]}
        },
    )
    (sentence,) = sentences(found)
    assert "Ours is best at evaluation.epochs 1000 (61.0 ± 1.0) and worst at 300 (51.0 ± 1.0)" in sentence


def test_methods_of_runs_that_differ_otherwise_are_not_said_to_beat_each_other(sweep_of, students):
    """Each experiment brings its own numbers; random real images stand beside its method in every one."""
    tops = {"teddy": [50.0, 51.0, 52.0], "dm": []}
    rivals = [students("real", [40.0, 41.0, 42.0], "same"), students("other", [30.0, 31.0, 32.0])]
    found = sentences(sweep_of("experiment", tops, more=lambda job: rivals[job]))
    where = "toy, IPC 10, convnet3, protocol paper, stored labels: "
    assert found[0].startswith(f"{where}Ours beats random real images by 10.0 points")
    assert found[1].startswith(
        f"{where}Ours and the other method have 51.0 ± 1.0 and 31.0 ± 1.0; as experiment differs"
    )


def test_an_effect_within_the_spread_or_of_single_runs(sweep_of, tmp_path):
    (sentence,) = sentences(sweep_of("labels.members", {1: [50.0, 52.0], 2: [51.0, 53.0]}))
    assert "1.0 points, no more than the spread of 2.0. Fewer than 3 seeds" in sentence


def test_single_runs_have_no_spread(sweep_of):
    (sentence,) = sentences(sweep_of("labels.members", {1: [50.0], 2: [51.0]}))
    assert "with a single run each, the spread is unknown" in sentence


def test_runs_of_several_seeds_are_one_sentence(sweep_of):
    found = sentences(sweep_of("seed", {0: [50.0, 52.0], 1: [53.0, 53.0], 2: [54.0, 58.0]}))
    assert found == ["protocol paper, stored labels: Ours is 53.3 ± 2.5 over the runs with 3 seeds."]  # of 51, 53, 56


def test_pools_of_one_method_are_told_apart(sweep_of, students):
    found = sentences(
        sweep_of("pool", {"prior": [50.0], "post": [60.0]}, more=lambda job: students("other", [1.0], "same"))
    )
    own = [sentence.partition(":")[0] for sentence in found if "is above the other method" in sentence]
    where = "toy, IPC 10, convnet3, protocol paper, stored labels"
    assert own == [f"{where}, pool prior", f"{where}, pool post"]


def test_notes_tell_how_to_read_the_table(of, students, teachers_sweep):
    (note,) = of(students("ours", [1.0, 2.0, 3.0]), notes)
    assert "mean ± sample standard deviation over seeds" in note
    some = " ".join(of(students("ours", [1.0], "a") + students("ours", [2.0], "b"), notes))
    assert "fewer than 3 seeds" in some
    assert "a seed more than once" in some
    assert any("“any”" in note for note in notes(compare(read_runs([teachers_sweep]))))
