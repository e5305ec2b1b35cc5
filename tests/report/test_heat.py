"""A heat map is a table: the numbers are in it, with their places and colours."""

import xml.etree.ElementTree as tree

import numpy as np

from pyfast_mmcl.report.heat import heat_map


def test_cells():
    A = np.array([[0.9, 0.125, np.nan], [0.5, 0.8, 0.0], [0.26, 0.6, 1.0]])
    sd = np.full((3, 3), 0.01)
    root = tree.fromstring(heat_map("er <1>", A, sd=sd, names=["a", "b & c", "d"]))
    table = root.find("table")
    assert table.find("caption").text == "er <1>"
    rows = table.find("tbody").findall("tr")
    assert [[cell.text for cell in row.findall("td")] for row in rows] == [
        ["90", "12", "–"],
        ["50", "80", "0"],
        ["26", "60", "100"],
    ]
    first, second, third = rows[0].findall("td")
    assert first.get("class") == "h36 own" and second.get("class") == "h5 ahead" and third.get("class") is None
    assert first.get("title") == "90.0 ± 1.0 % on a after a" and second.get("title") == "12.5 ± 1.0 % on b & c after a"
    assert [th.get("scope") for th in table.iter("th")].count("row") == 3
    assert rows[2].findall("td")[0].get("class") == "h10"


def test_tasks_without_names_are_numbered():
    assert "90.0 % on task 1 after task 1" in heat_map("er", np.array([[0.9]]))
