"""Publishing: a bundle is there whole, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bise_export.errors import ExportError
from bise_export.publish import published

MANIFEST = "bundle.json"


def publish(target, content, *, replace=False):
    with published(target, replace=replace, identity="one") as draft:
        folder = draft.folder
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "file").write_text(content)
        (folder / MANIFEST).write_text(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_whole_with_ordinary_rights(tmp_path):
    publish(tmp_path / "new" / "bundle", "one")

    assert names(tmp_path / "new") == ["bundle"]
    assert (tmp_path / "new" / "bundle" / "tokenizer" / "file").read_text() == "one"
    assert (tmp_path / "new" / "bundle").stat().st_mode & 0o777 == 0o755


def test_nothing_is_at_the_target_before_the_end(tmp_path):
    with published(tmp_path / "bundle", replace=False, identity="one") as draft:
        folder = draft.folder
        (folder / MANIFEST).write_text("")
        assert not (tmp_path / "bundle").exists()
        assert folder.parent == tmp_path  # one file system, so one rename


@pytest.mark.parametrize("error", [ValueError, ExportError, OSError])
def test_a_failure_leaves_nothing(tmp_path, error):
    def fail_halfway():
        with published(tmp_path / "bundle", replace=False, identity="one") as draft:
            (draft.folder / "half").write_text("")
            raise error

    with pytest.raises(error):
        fail_halfway()

    assert names(tmp_path) == []


def test_a_failure_leaves_the_bundle_that_was_there(tmp_path):
    publish(tmp_path / "bundle", "old")

    with pytest.raises(ValueError, match="no"), published(tmp_path / "bundle", replace=True, identity="one"):
        raise ValueError("no")

    assert names(tmp_path) == ["bundle"]
    assert (tmp_path / "bundle" / MANIFEST).read_text() == "old"


def test_a_bundle_is_replaced_when_asked(tmp_path):
    publish(tmp_path / "bundle", "old")
    (tmp_path / "bundle" / "extra").write_text("")

    publish(tmp_path / "bundle", "new", replace=True)

    assert names(tmp_path) == ["bundle"]
    assert names(tmp_path / "bundle") == [MANIFEST, "tokenizer"]
    assert (tmp_path / "bundle" / MANIFEST).read_text() == "new"


def test_replacing_where_nothing_is_publishes(tmp_path):
    publish(tmp_path / "bundle", "new", replace=True)

    assert (tmp_path / "bundle" / MANIFEST).read_text() == "new"


def test_what_a_crash_left_of_an_earlier_replacement_is_no_hindrance(tmp_path):
    publish(tmp_path / "bundle", "old")
    shutil.copytree(tmp_path / "bundle", tmp_path / ".bundle.old")

    publish(tmp_path / "bundle", "new", replace=True)

    assert names(tmp_path) == ["bundle"]


def test_a_rename_that_fails_puts_the_old_bundle_back(tmp_path, monkeypatch):
    publish(tmp_path / "bundle", "old")
    rename = Path.rename

    def fail_for_the_new(self, target):
        if self.suffix == ".partial":
            raise OSError("disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="disk is gone"):
        publish(tmp_path / "bundle", "new", replace=True)

    assert names(tmp_path) == ["bundle"]
    assert (tmp_path / "bundle" / MANIFEST).read_text() == "old"


def make_bundle(path):
    publish(path, "old")


def make_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def make_link(path):
    publish(path.with_name("real"), "old")
    path.symlink_to(path.with_name("real"))


@pytest.mark.parametrize(
    ("make", "replace", "message"),
    [
        (make_bundle, False, "expected a path where nothing is yet.*--overwrite"),
        (make_folder, False, "expected a path where nothing is yet"),
        (make_folder, True, "--overwrite replaces bundles only, and this is none"),
        (Path.touch, True, "--overwrite replaces bundles only"),
        (make_link, True, "got a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), False, "got a symbolic link"),
    ],
)
def test_what_is_there_and_may_not_go_stays(tmp_path, make, replace, message):
    target = tmp_path / "target"
    make(target)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    with pytest.raises(ExportError, match=message):
        publish(target, "new", replace=replace)

    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
