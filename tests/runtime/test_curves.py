import csv

from teddy.runtime.curves import CurveFile, read_curve


def test_columns_grow_and_older_rows_stay(tmp_path):
    path = tmp_path / "pool.csv"
    curve = CurveFile(path)
    curve.append(1, {"pool/loss": 2.5})
    curve.append(2, {"pool/loss": 2.0, "pool/top1_holdout": 10.0})
    curve.append(3, {"pool/top1_holdout": 12.5})
    with path.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["step", "pool/loss", "pool/top1_holdout"],
            ["1", "2.5", ""],
            ["2", "2.0", "10.0"],
            ["3", "", "12.5"],
        ]


def test_every_row_is_on_disk_at_once(tmp_path):
    curve = CurveFile(tmp_path / "c.csv")
    for step in range(3):
        curve.append(step, {"a": step})
        assert len(read_curve(tmp_path / "c.csv")) == step + 1


def test_a_killed_run_s_half_row_is_dropped_and_the_file_goes_on(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("step,a\n1,0.5\n2,0.")
    CurveFile(path).append(2, {"a": 0.25})
    assert read_curve(path) == [{"step": "1", "a": "0.5"}, {"step": "2", "a": "0.25"}]


def test_a_header_cut_off_in_the_middle_is_written_again(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("step,synth")
    CurveFile(path).append(7, {"synthesis/loss": 1.0})
    assert read_curve(path) == [{"step": "7", "synthesis/loss": "1.0"}]


def test_an_empty_file_gets_a_header(tmp_path):
    path = tmp_path / "c.csv"
    path.touch()
    CurveFile(path).append(7, {})
    assert read_curve(path) == [{"step": "7"}]
