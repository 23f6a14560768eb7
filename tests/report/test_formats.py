import csv
import io
import json
import re

from rich.console import Console

from teddy.report.formats import condense, console, latex, markdown, numeric, students_csv
from teddy.report.ledger import Result

HEAD = ["method", "synthesis.lr", "student", "top-1 %", "against random"]
LINES = [["a_b & 50%", "0.1", "vgg{11}", "61.2 ± 0.4", "-1.0"], ["random", "0.25", "vgg{11}", "62.2", ""]]
UNESCAPED = {
    r"\&": "&",
    r"\%": "%",
    r"\_": "_",
    r"\{": "{",
    r"\}": "}",
    r"\#": "#",
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"$\pm$": "±",
}


def parse(text):
    """The cells of a tabular, its column kinds, the numbers of rows that stand below a rule, and the bold cells."""
    kinds = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows, ruled, bold = [], [], []
    for line in body.splitlines()[1:]:
        if line == r"\midrule":
            ruled.append(len(rows) - 1)
            continue
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\"))
        for place, cell in enumerate(cells):
            if match := re.fullmatch(r"\\textbf\{(.*)\}", cell):
                cells[place] = match[1]
                bold.append((len(rows) - 1, place))
        cells = [re.sub(r"^\$([+-].*)\$$", r"\1", cell) for cell in cells]
        for sign, letter in UNESCAPED.items():
            cells = [cell.replace(sign, letter) for cell in cells]
        rows.append([cell.strip() for cell in cells])
    return rows, kinds, ruled, bold


def test_latex_says_the_same_as_the_table():
    text = latex(HEAD, LINES, bold={0}, rules={0, 1}, comment="a\nb")
    rows, kinds, ruled, bold = parse(text)
    assert rows == [HEAD, *LINES]
    assert kinds == "lrlrr"
    assert ruled == [0, 1]
    assert bold == [(0, 3)]
    assert text.splitlines()[0] == r"% a b; needs \usepackage{booktabs}"


def test_every_special_letter_is_escaped():
    (_, row), *_ = parse(latex(["method"], [["# ~ ^ _ \\ {x}"]]))
    assert row == ["# ~ ^ _ \\ {x}"]


def test_columns_of_numbers_are_flush_right():
    assert numeric(["a", "b", "paper", "c"], [["1", "x", "", "1e-3"], ["-2.5", "1", "", ""]]) == [
        True,
        False,
        True,
        False,
    ]
    assert markdown(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| ---: | --- |\n| 1 | x\\|y |\n"


def test_what_all_rows_share_is_taken_out():
    head = ["method", "student", "IPC", "seeds", "paper"]
    lines = [["teddy", "vgg", "1", "3", ""], ["random", "vgg", "10", "3", ""]]
    said, rest, cells = condense(head, lines)
    assert said == {"student": "vgg"}
    assert rest == ["method", "IPC", "seeds"]
    assert cells == [["teddy", "1", "3"], ["random", "10", "3"]]
    assert condense(head, lines, also=["seeds"])[0] == {"student": "vgg", "seeds": "3"}


def test_a_wide_table_still_fits_the_console():
    head = ["method", "synthesis.teachers_per_block", "labels", "protocol", "top-1 %", "against random", "paper"]
    lines = [
        ["converged", "any", "stored", "hard_label", "46.3 ± 0.3", "-12.0", "34.5 ± 0.1"],
        ["teddy", "1", "hard", "paper", "50.0 ± 0.1", "+1.7", "34.5 ± 0.2"],
    ]
    output = Console(file=io.StringIO(), width=80)
    output.print(console(head, lines, title="toy"))
    text = output.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    shown = [line.split() for line in text.splitlines() if "±" in line]
    assert shown == [" ".join(line).split() for line in lines]


def test_the_csv_has_the_setting_first_and_mappings_as_json():
    row = Result("toy", 1, "teddy", "p", "hard", "paper", "vgg", 0, 60.5, cost={"pool_seconds": 2.5})
    text = students_csv([({"lr": "0.1"}, row), ({"lr": "0.2", "x": "y"}, row)])
    first, second = csv.DictReader(io.StringIO(text))
    assert list(first)[:3] == ["lr", "x", "dataset"]
    assert (first["lr"], first["x"], second["lr"], second["x"]) == ("0.1", "", "0.2", "y")
    assert json.loads(first["cost"]) == {"pool_seconds": 2.5}
    assert first["top1"] == "60.5"
